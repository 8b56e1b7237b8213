"""The door of LaVie Studio: hands the arguments to `app.cli.main`. Alone it opens the studio; `--help` tells more.

The package `app` beside this file is found before the file itself, so that `import app` never means this script.
"""

from app.cli.main import main

if __name__ == "__main__":
    main()

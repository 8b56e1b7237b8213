"""The real page with the real Nano, where the published weights are those of `tests.extensions.published.toys`.

python -m tests.servers.weights --data DATA --port PORT …
"""

from functools import partial

from app.cli.main import main
from extensions.published import convert as converting
from tests.extensions.published.toys import published

if __name__ == "__main__":
    converting.convert = partial(converting.convert, published=published())
    main()

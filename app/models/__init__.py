"""The published weights at home: fetched, listed, converted and compared, for commands and page alike.

`sources` says where they come from, `hub` talks to it, `download` keeps what comes, `known` says what is there.
Importing these needs neither torch nor huggingface_hub. What is in the files is known to `extensions.published`.
"""

"""``python -m restorecli``: the same as ``restore``."""

from restorecli.cli import main

if __name__ == "__main__":
    main()

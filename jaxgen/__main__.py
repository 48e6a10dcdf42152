"""``python -m jaxgen``: the command line, where its script is not on the path."""

from jaxgen.cli import entry

if __name__ == "__main__":
    entry()

"""`python -m labkit`: the command line."""

from labkit.cli.main import main

if __name__ == "__main__":
    main()

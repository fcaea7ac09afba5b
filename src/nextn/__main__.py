"""`python -m nextn` is the command `nextn`."""

from nextn.cli import main

if __name__ == "__main__":
    main()

"""`python -m backend_stub` is `spot-backend`."""

from backend_stub.cli import main

if __name__ == "__main__":
    main()

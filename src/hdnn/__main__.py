"""`python -m hdnn`, as in `torchrun --nproc-per-node 2 -m hdnn train digits`: the command line."""

from hdnn.cli import main

if __name__ == "__main__":
    main()

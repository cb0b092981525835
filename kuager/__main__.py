"""`python -m kuager` is the same as `kuager`."""

from kuager.cli import main

main()

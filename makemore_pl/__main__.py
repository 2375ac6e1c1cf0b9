"""`python -m makemore_pl` is the same program as `makemore`."""

from makemore_pl.cli import main

main()

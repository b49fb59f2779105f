"""`python -m mmovseg_cli` is the command `mmovseg`."""

from mmovseg_cli.app import main

main()

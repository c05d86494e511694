"""`python -m stdcf_lib.convert`."""

from stdcf_lib.convert.command import main

main()

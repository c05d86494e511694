"""`python -m stdcf_lib.experiments` (`make runs`); in a module of its own, as the processes of a pool do not know this one."""

from stdcf_lib.experiments.command import main

main()

"""What fills `runs/`: the experiments that the notebooks read.

`reconstruction` (notebook 04), `tempo` (05), `turning` digits (06), real `interactions` (05, 06), the measured `steps` of R50
(06), `recovery` and `filters` (07). Each says which trials it has and trains one of them; `python -m stdcf_lib.experiments`
trains what is missing, several at a time (`pool`).
"""

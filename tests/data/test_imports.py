"""What the data modules need: where no video is decoded, nothing that decodes videos or pictures."""

import subprocess
import sys

HEAVY = {"av", "torchvision", "PIL"}
LIGHT = ["", ".tr_mnist", ".turning", ".actions", ".probes", ".noise", ".lists", ".kth_protocol"]


def imported(modules):
    code = f"import sys{''.join(f', stdcf_lib.data{name}' for name in modules)}; print(*sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(answer.stdout.split())


def test_data_without_videos_need_no_decoder():
    assert not HEAVY & imported(LIGHT)


def test_data_of_videos_do_and_torchvision_is_for_others_networks():
    assert HEAVY & imported([".video", ".kinetics", ".something"]) == {"av", "PIL"}

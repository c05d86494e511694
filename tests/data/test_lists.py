"""Lists that users write: read as meant, and whatever else is in them, a ValueError names the file and the line."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stdcf_lib.data.kinetics import kinetics_csv
from stdcf_lib.data.kth import sequences
from stdcf_lib.data.lists import class_names, csv_rows, path_label_list, present, read_text
from stdcf_lib.data.mnist import read_idx
from stdcf_lib.data.something import something_csv

HEADER = "label,youtube_id,time_start,time_end,split\n"
LONG = "x" * 200_000


def test_a_list_of_paths_may_hold_spaces_and_no_nonsense(tmp_path):
    (tmp_path / "list.txt").write_text("\ufeffa b/c d.mp4 12\r\n\r\ne.mp4 0\r\n", encoding="utf-8")
    assert path_label_list(tmp_path / "list.txt", tmp_path) == [(tmp_path / "a b/c d.mp4", 12), (tmp_path / "e.mp4", 0)]
    (tmp_path / "list.txt").write_text("a.mp4 1\nb.mp4 x\n")
    with pytest.raises(ValueError, match=r"line 2 of .* is 'b\.mp4 x'"):
        path_label_list(tmp_path / "list.txt", tmp_path)


def test_names_of_classes_are_lines_and_none_is_empty(tmp_path):
    (path := tmp_path / "classes.txt").write_text("yoga \nchess\n\n")
    assert class_names(path) == ["yoga", "chess"]
    for text, line in (("", 1), ("\n \n", 1), ("yoga\n \nchess\n", 2)):
        path.write_text(text)
        with pytest.raises(ValueError, match=rf"line {line} of .*classes\.txt is empty"):
            class_names(path)


@pytest.mark.parametrize("label", ["²", "١", "-1", "1.0", "9" * 20, "9" * 5000])
def test_a_label_is_a_number_that_fits(tmp_path, label):
    (tmp_path / "list.txt").write_text(f"a.mp4 1\nb.mp4 {label}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"line 2 of .*list\.txt is .*; a row is a path, a space and the number of a class"):
        path_label_list(tmp_path / "list.txt", tmp_path)


def test_a_class_beyond_the_last_is_refused(tmp_path):
    (tmp_path / "list.txt").write_text("a.mp4 399\n\nb.mp4 400\n")
    assert len(path_label_list(tmp_path / "list.txt", tmp_path, 401)) == 2
    with pytest.raises(ValueError, match=r"line 3 of .*list\.txt has the class 400; 400 classes are numbered from 0 to 399"):
        path_label_list(tmp_path / "list.txt", tmp_path, 400)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column label, time_end, time_start, youtube_id"),
        ("label,youtube_id\nyoga,x\n", "has no column time_end, time_start"),
        (HEADER + "yoga,x,one,2\n", "line 2 of .* has no whole seconds"),
        (HEADER + "yoga,x,²,2\n", "line 2 of .* has no whole seconds"),
        (HEADER + "yoga,x,1\n", "line 2 of .* has no whole seconds"),
        (HEADER + "yoga\n", "line 2 of .* has no whole seconds"),
        (HEADER + ",,1,2\n", "line 2 of .* has no label or no youtube_id"),
        (HEADER + "yoga,x,1,2\nchess,x,1,2\n", "line 3 of .* has the label 'chess'"),
        (HEADER + f"yoga,{LONG},1,2\n", "line 2 of .* is no row of a CSV: field larger than field limit"),
    ],
)
def test_a_csv_of_kinetics_that_cannot_be_read_is_refused(tmp_path, text, message):
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        kinetics_csv(tmp_path / "list.csv", tmp_path, ["yoga"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("7\n", "line 1 of .* is '7'; a row is id;label"),
        (";Holding\n", "line 1 of .* is ';Holding'; a row is id;label"),
        ("7;Holding\n8;Nothing\n", "line 2 of .* label 'Nothing'"),
        (f"7;{LONG}\n", "line 1 of .* is no row of a CSV: field larger than field limit"),
    ],
)
def test_a_list_of_gestures_that_cannot_be_read_is_refused(tmp_path, text, message):
    (tmp_path / "labels.csv").write_text("Holding\nPushing\n")
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        something_csv(tmp_path / "list.csv", tmp_path, tmp_path / "labels.csv")
    with pytest.raises(ValueError, match=r"labels=None: give something-something-v1-labels\.csv"):
        something_csv(tmp_path / "list.csv", tmp_path, None)
    with pytest.raises(ValueError, match=r"num_classes=1: 2 labels are in .*labels\.csv"):
        something_csv(tmp_path / "list.csv", tmp_path, tmp_path / "labels.csv", 1)


def test_names_too_long_for_any_disk_are_missing(tmp_path, caplog):
    (tmp_path / "here.mp4").touch()
    (tmp_path / "link.mp4").symlink_to("gone.mp4")
    samples = [(tmp_path / name, 0) for name in ("here.mp4", 5000 * "x" + ".mp4", "nul\0.mp4", "link.mp4")]
    kept, missing = present(samples, "Kinetics")
    assert kept == samples[:1] and missing == [str(path) for path, _ in samples[1:]]
    assert "Kinetics: 3 of 4 are missing, such as" in caplog.text
    (tmp_path / "list.csv").write_text(HEADER + f"yoga,{5000 * 'x'},1,2\n")
    assert len(kinetics_csv(tmp_path / "list.csv", tmp_path)) == 1


def test_other_bytes_than_utf8_are_named_with_their_line(tmp_path):
    (path := tmp_path / "list").write_bytes(HEADER.encode() + b"yoga,x,1,2\nyog\xe1,x,1,2\n")
    for read in (read_text, lambda path: kinetics_csv(path, tmp_path), lambda path: path_label_list(path, tmp_path)):
        with pytest.raises(ValueError, match=r"line 3 of .*list is not in UTF-8: .*; save it as UTF-8"):
            read(path)


def test_rows_of_a_csv_are_numbered_by_their_last_line(tmp_path):
    (path := tmp_path / "list").write_text('\ufeffa,"b\nc"\n\nd\n', encoding="utf-8")
    assert list(csv_rows(path)) == [(2, ["a", "b\nc"]), (4, ["d"])]


# Whatever is in a file. The pieces are what such files are made of, so that draws come near to what is right.

PIECES = {
    "paths": ["a.mp4 1", "a b.mp4 0", "\n", " ", "²", "9" * 30, "x" * 300, "/", "\0", "\u2028", "\ufeff", "\r"],
    "kinetics": [HEADER, "yoga", "chess", ",", '"', "\n", "x,1,2", "²", "9" * 5000, "x" * 300, LONG, "\0", "/", "\r", "-1"],
    "something": ["7", ";", "Holding", '"', "\n", "²", LONG, "\0", "x" * 300, "\r", "\ufeff"],
    "sequences": [
        "person01_boxing_d1",
        "person",
        "01",
        "frames",
        " 1-95",
        ", 96-185",
        "\n",
        "٣",
        "9" * 5000,
        "missing",
        "-",
        "0",
    ],
}


def read(kind, path, folder):
    if kind == "paths":
        return path_label_list(path, folder, 2)
    if kind == "kinetics":
        return kinetics_csv(path, folder, ["yoga"])
    return something_csv(path, folder, folder / "labels") if kind == "something" else sequences(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lists")
    (folder / "labels").write_text("Holding\n")
    return folder


@pytest.mark.parametrize("kind", PIECES)
@given(data=st.data())
def test_whatever_is_in_a_list_only_a_value_error_comes(folder, kind, data):
    pieces = st.sampled_from([piece.encode() for piece in PIECES[kind]]) | st.binary(max_size=4)
    path = folder / "list"
    path.write_bytes(b"".join(data.draw(st.lists(pieces, max_size=12))))
    try:
        samples = read(kind, path, folder)
    except ValueError as error:
        assert str(path) in str(error)
        assert re.search(r"line \d+ of|has no column|no row like", str(error))
    else:
        present(samples if isinstance(samples, list) else [], kind)


@given(
    head=st.sampled_from([b"\0\0\x08", b"\x1f\x8b", b"\0\0\x0d", b""]),
    axes=st.integers(0, 255),
    lengths=st.lists(st.sampled_from([0, 1, 2, 28, 2**31, 2**32 - 1]), max_size=70),
    rest=st.binary(max_size=8),
)
def test_whatever_is_in_an_idx_file_only_a_value_error_comes(folder, head, axes, lengths, rest):
    path = folder / "idx"
    path.write_bytes(head + bytes([axes]) + b"".join(n.to_bytes(4, "big") for n in lengths) + rest)
    try:
        assert read_idx(path).dtype == "uint8"
    except ValueError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize("lengths", [[0] * 80, [2**32 - 1, 2**32 - 1, 2**32 - 1, 0], [1] * 70])
def test_an_idx_header_that_no_array_can_have_is_named(tmp_path, lengths):
    path = tmp_path / "idx"
    size = 1 if all(lengths) else 0
    path.write_bytes(b"\0\0\x08" + bytes([len(lengths)]) + b"".join(n.to_bytes(4, "big") for n in lengths) + bytes(size))
    with pytest.raises(ValueError, match=rf"idx promises {len(lengths)} axes"):
        read_idx(path)

"""Which classes a cell of labels.csv names, whatever separates them, or why it is refused."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from getam.data.check import check
from getam.data.folder import read_folder
from getam.errors import UserError
from getam.running.commands.current import CurrentRun

DECOMPOSED, COMPOSED = "ka\u0308fer", "k\u00e4fer"


@pytest.fixture
def root(tmp_path) -> Path:
    """Ten photos without a table."""
    (tmp_path / "images").mkdir()
    for n in range(10):
        Image.new("RGB", (8, 8), (n, n, n)).save(tmp_path / "images" / f"p{n}.png")
    return tmp_path


def write(root: Path, *cells: str, header: str = "image,classes", delimiter: str = ",") -> Path:
    """A table whose cells are given to the photos in turn, as text of the file."""
    lines = [f"p{n}{delimiter}{cells[n % len(cells)]}" for n in range(10)]
    (root / "labels.csv").write_text("\n".join([header, *lines]), encoding="utf-8")
    return root


def labels(root: Path) -> dict[str, tuple[str, ...]]:
    index = read_folder(root)
    records = [record for split in index.splits for record in index.split(split)]
    return {r.id: tuple(index.classes[c - 1] for c in r.labels or ()) for r in records}


def notes(root: Path) -> str:
    return "\n".join(check(read_folder(root), ["train", "val"])["notes"])


@pytest.mark.parametrize(
    "cell",
    ['"cat, dog"', '"cat,dog"', "cat;dog", "cat; dog;", "cat|dog", "cat\tdog", "cat dog"],
)
def test_two_classes_in_a_cell_are_two_classes(root, cell):
    assert_two_classes(root, cell)


@pytest.mark.parametrize("cell", [' "cat;dog"', '"cat\ndog"', "cat;;dog", "cat ; dog"])
def test_blanks_around_names_and_empty_names_do_not_count(root, cell):
    assert_two_classes(root, cell)


def assert_two_classes(root: Path, cell: str) -> None:
    found = labels(write(root, cell, "cat", "dog"))
    assert found["p0"] == ("cat", "dog")
    assert found["p1"] == ("cat",)
    assert read_folder(root).classes == ("cat", "dog")


def test_where_a_sign_separates_classes_spaces_belong_to_names(root):
    found = labels(write(root, "traffic light;stop sign", "stop sign", "traffic  light"))
    assert read_folder(root).classes == ("stop sign", "traffic light")
    assert found["p0"] == ("stop sign", "traffic light")
    assert found["p1"] == ("stop sign",)
    assert found["p2"] == ("traffic light",)
    assert "space" not in notes(root)


def test_names_with_spaces_without_a_separator_are_said(root):
    assert "spaces separate classes, so 'polar bear' (photo 'p0')" in notes(
        write(root, "polar bear", "brown bear")
    )
    assert "'fire truck' (photo 'p2') is one class" in notes(
        write(root, "cat;dog", "cat", "fire truck")
    )


def test_a_listed_name_with_a_sign_is_one_class_also_beside_another(root):
    (root / "classes.txt").write_text("bow, weapon\nweapon\nquiver\n")
    several = ('"bow, weapon;quiver"', '"weapon, bow, weapon"', '"quiver, weapon"')
    write(root, *several, '"bow, weapon"')
    found = labels(root)
    assert found["p0"] == ("bow, weapon", "quiver")
    assert found["p1"] == ("bow, weapon", "weapon")
    assert found["p2"] == ("weapon", "quiver")
    assert found["p3"] == ("bow, weapon",)


def test_classes_txt_says_which_names_have_spaces(root):
    (root / "classes.txt").write_text("polar bear\nbrown bear\n")
    found = labels(write(root, "polar bear", "brown bear"))
    assert (found["p0"], found["p1"]) == (("polar bear",), ("brown bear",))
    assert "space" not in notes(root)


@pytest.mark.parametrize("listed", ["", "cat\ndog\ncat dog\n"])
def test_a_cell_that_can_be_read_in_two_ways_is_refused(root, listed):
    if listed:
        (root / "classes.txt").write_text(listed)
    cells = ("cat dog", "cat", "dog") if listed else ("cat dog", "cat;dog", "cat", "dog")
    with pytest.raises(UserError, match=r"photo 'p0' has 'cat dog', which may be one class or"):
        read_folder(write(root, *cells))


@pytest.mark.parametrize(
    "cell",
    [
        *("\"['cat', 'dog']\"", '"[""cat"", ""dog""]"', "['cat' 'dog']", "\"('cat', 'dog')\""),
        *('"{cat,dog}"', "['cat']", "[]"),
    ],
)
def test_a_list_as_text_is_refused(root, cell):
    with pytest.raises(UserError, match=r"labels.csv: 5 lines .* photo 'p1' has .*a list as text"):
        read_folder(write(root, "cat", cell))


def test_a_name_in_quotes_is_refused(root):
    with pytest.raises(UserError, match="quoted text"):
        read_folder(write(root, "\"'cat', 'dog'\""))


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_tables_with_other_delimiters_are_read(root, delimiter):
    header = f"image{delimiter}classes"
    found = labels(write(root, '"cat, dog"', "dog", header=header, delimiter=delimiter))
    assert (found["p0"], found["p1"]) == (("cat", "dog"), ("dog",))


def test_bom_crlf_quotes_and_blank_rows_change_nothing(root):
    rows = ['"image","classes"', '"p0","cat"', '"p1.png", "dog"', "", ",", 'p2,"cat dog"']
    (root / "labels.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(rows).encode())
    found = labels(root)
    assert (found["p0"], found["p1"], found["p2"]) == (("cat",), ("dog",), ("cat", "dog"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"image,classes\np0,cat,dog\n", 'line 2: got 3 columns.*in quotes: p0,"cat;dog"'),
        (b"image,classes\np0\n", "line 2: got 1 columns"),
        (b"file,label\np0,cat\n", "line 1: got 'file,label', expected the header"),
        (b"", "line 1: got 'nothing'"),
        ("image,classes\np0,k\u00e4fer\n".encode("latin-1"), "not UTF-8 text"),
        ("image,classes\np0,cat\n".encode("utf-16"), "not UTF-8 text"),
        (b"image,classes\np0," + b"a" * 200_000 + b"\n", "line 2: not a CSV table"),
    ],
)
def test_a_table_that_cannot_be_read_is_one_sentence(root, content, message):
    (root / "labels.csv").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_folder(root)


@pytest.mark.parametrize(
    "names",
    [("Cat", "cat"), ("traffic-light", "traffic_light"), ("cat", "cat\u200b"), ("\uff43at", "cat")],
)
def test_names_that_look_alike_are_noted(root, names):
    assert "look alike (upper and lower case" in notes(write(root, *names))


def test_one_name_in_two_unicode_forms_is_one_class_and_said(root):
    write(root, COMPOSED, DECOMPOSED)
    assert read_folder(root).classes == (COMPOSED,)
    assert "2 Unicode forms" in notes(root)
    assert read_folder(root).subset([DECOMPOSED]).classes == (COMPOSED,)


def test_commands_find_ids_and_classes_in_any_unicode_form(root):
    (root / "images" / "p0.png").rename(root / "images" / f"{DECOMPOSED}.png")
    (root / "labels.json").write_text(json.dumps({COMPOSED: [COMPOSED]}))
    run = SimpleNamespace(data=read_folder(root))
    for form in (COMPOSED, DECOMPOSED):
        (record,) = CurrentRun.records(run, "train", [f"{form}.png"])
        assert record.id == COMPOSED
        assert CurrentRun.class_id(run, form) == 1
    with pytest.raises(UserError, match="twice"):
        run.data.subset([COMPOSED, DECOMPOSED])


def test_ids_are_one_whatever_their_unicode_form(root):
    for form, name in ((COMPOSED, "p0"), (DECOMPOSED, "p1")):
        (root / "images" / f"{name}.png").rename(root / "images" / f"{form}{name}.png")
    (root / "splits").mkdir()
    (root / "splits" / "train.txt").write_text(f"{DECOMPOSED}p0\n{COMPOSED}p1\np2\n")
    (root / "splits" / "val.txt").write_text("p3\n")
    (root / "labels.json").write_text(
        json.dumps({f"{DECOMPOSED}p0": ["a"], f"{COMPOSED}p1": ["b"]})
    )
    records = read_folder(root).split("train")
    assert [r.id for r in records] == [f"{COMPOSED}p0", f"{COMPOSED}p1", "p2"]
    assert [r.labels for r in records] == [(1,), (2,), None]
    assert all(r.image.is_file() for r in records)


def test_numeric_names_are_in_their_natural_order(root):
    assert read_folder(write(root, "10", "9", "2")).classes == ("2", "9", "10")
    assert read_folder(write(root, "part10", "part9", "a")).classes == ("a", "part9", "part10")
    assert "class '2' has id 1" in notes(write(root, "10", "9", "2"))
    assert "ids" not in notes(write(root, "1", "2", "3"))


@pytest.mark.parametrize("name", ["background", "Background", "ignored"])
def test_a_class_with_the_name_of_another_row_is_refused(root, name):
    with pytest.raises(UserError, match=f"a class called '{name}'.*empty"):
        read_folder(write(root, name, "cat"))
    (root / "classes.txt").write_text(f"cat\n{name}\n")
    with pytest.raises(UserError, match=r"classes.txt: got a class called"):
        read_folder(write(root, "cat"))


def test_a_class_that_says_that_there_is_none_is_noted(root):
    assert "class called 'none'" in notes(write(root, "none", "cat"))


def test_an_image_twice_in_labels_json_is_refused(root):
    (root / "labels.json").write_text('{"p0": ["cat"], "p0": ["dog"]}')
    with pytest.raises(UserError, match="photo 'p0' stands there twice"):
        read_folder(root)


def test_a_line_per_photo_and_class_is_a_table_too(root):
    table = "image,classes\np0,traffic light\np0,cat\np1,cat\np1,cat\np2,traffic light\n"
    (root / "labels.csv").write_text(table)
    found = labels(root)
    assert (found["p0"], found["p1"]) == (("cat", "traffic light"), ("cat",))
    assert found["p2"] == ("traffic light",)
    assert "2 of 3 photos have several lines, 'p0' first. Each line adds its class" in notes(root)


def test_a_second_line_beside_cells_with_several_classes_says_what_to_write(root):
    (root / "labels.csv").write_text("image,classes\np0,cat;dog\np1,cat\np1,dog\n")
    expected = r"line 4: photo 'p1' has a line already \(line 3\).*: p1,cat;dog"
    with pytest.raises(UserError, match=expected):
        read_folder(root)


def test_a_photo_with_a_class_and_with_none_is_refused(root):
    (root / "labels.csv").write_text("image,classes\np0,cat\np0,\np1,dog\n")
    with pytest.raises(UserError, match=r"line 3: .*classes in one line and none in another"):
        read_folder(root)


def test_semicolons_between_columns_and_classes_get_an_advice_that_works(root):
    (root / "labels.csv").write_text("image;classes\np0;cat;dog\np1;cat\n")
    with pytest.raises(UserError, match=r'in quotes: p0;"cat;dog"'):
        read_folder(root)
    (root / "labels.csv").write_text('image;classes\np0;"cat;dog"\np1;cat\n')
    assert labels(root)["p0"] == ("cat", "dog")


def test_other_columns_and_capital_letters_of_the_header_are_named(root):
    for header in ("image,classes,photographer", "Image,Classes"):
        (root / "labels.csv").write_text(f"{header}\np0,cat,me\n")
        with pytest.raises(UserError, match=r"2 columns.*small letters.*delete other ones"):
            read_folder(root)

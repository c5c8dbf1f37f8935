"""Label tables with a column for each class, and 0 or 1 in each cell."""

from __future__ import annotations

import pytest

from getam.data.folder import read_folder
from getam.errors import UserError
from tests.data.test_label_table import labels, root, write  # noqa: F401

HEADER = "image,traffic light,dog,cat"


@pytest.mark.parametrize(
    "cells",
    [
        ("1,0,1", "0,1,0", "0,0,0"),
        ("1.0, 0.0,1.0", "0.0,1.0,0.0", "0.0,0.0,0.0"),
        ("TRUE,FALSE,True", "false,true,false", "False,False,False"),
        ('"1","0","1"', '"0","1","0"', '"0","0","0"'),
    ],
)
def test_a_photo_has_the_classes_whose_columns_have_a_1(root, cells):  # noqa: F811
    found = labels(write(root, *cells, header=HEADER))
    assert set(found["p0"]) == {"cat", "traffic light"}
    assert found["p1"] == ("dog",)
    assert found["p2"] == ()
    assert read_folder(root).classes == ("cat", "dog", "traffic light")


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_the_columns_are_separated_as_those_of_the_other_form(root, delimiter):  # noqa: F811
    cells = [cell.replace(",", delimiter) for cell in ("1,0,0", "0,1,0", "0,0,1")]
    header = HEADER.replace(",", delimiter)
    found = labels(write(root, *cells, header=header, delimiter=delimiter))
    assert [found[f"p{n}"] for n in range(3)] == [("traffic light",), ("dog",), ("cat",)]


def test_the_table_says_how_it_was_read_and_which_column_is_no_class(root):  # noqa: F811
    notes = "\n".join(read_folder(write(root, "1,0,0", "0,1,0", header=HEADER)).notes)
    assert "a column for each class: 'traffic light', 'dog', 'cat'." in notes
    assert "no photo has a 1 in 'cat', so this is no class here" in notes


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        (("1,0,0", "0,0.7,1"), r"line 3: column 'dog' has '0.7', expected 0 or 1"),
        (("1,0,0", "0,,1"), r"line 3: column 'dog' has '', expected 0 or 1"),
        (("1,0,0", "0,1,-1"), r"line 3: column 'cat' has '-1', expected 0 or 1"),
        (("1,0,0", "0,1"), r"line 3: got 3 columns, expected 4 as in the header"),
    ],
)
def test_a_cell_that_is_neither_0_nor_1_is_refused(root, cells, told):  # noqa: F811
    with pytest.raises(UserError, match=told):
        read_folder(write(root, *cells, header=HEADER))


def test_all_bad_lines_are_told_in_one_call(root):  # noqa: F811
    problems: list[str] = []
    write(root, "1,0,0", "0,x,1", header=HEADER)
    with open(root / "labels.csv", "a", encoding="utf-8") as table:
        table.write("\np0,1,0,0\ngone,1,0,0\n")
    read_folder(root, problems=problems)
    told = "\n".join(problems)
    assert "line 3: column 'dog' has 'x', expected 0 or 1" in told
    assert "(and 4 other lines are wrong)" in told
    assert "photo 'p0' stands there twice" in told
    assert "line 13: got 'gone', but images/ has no such photo" in told
    assert len(problems) == 3


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("image,dog,,cat", "column 3 has no name"),
        ("image,dog,dog ,cat", "two columns are called 'dog'"),
    ],
)
def test_columns_need_names_of_their_own(root, header, told):  # noqa: F811
    with pytest.raises(UserError, match=told):
        read_folder(write(root, "1,0,0", header=header))


def test_a_column_of_another_kind_is_named_with_what_to_do(root):  # noqa: F811
    with pytest.raises(UserError, match=r"'split' has 'train'.*If 'split' is no class, delete"):
        read_folder(write(root, "1,0,train", header="image,cat,dog,split"))


@pytest.mark.parametrize(
    "cells", ["yes,no", "x,x", "WAHR,FALSCH", "0.93,0.07", "Y,N", "2,0", "1e-3,0.9"]
)
def test_other_values_are_not_told_to_be_another_header(root, cells):  # noqa: F811
    """The advice to rename the columns would have deleted the labels."""
    with pytest.raises(UserError, match=r"line 2: column 'cat' has .*expected 0 or 1") as caught:
        read_folder(write(root, cells, header="image,cat,dog"))
    assert "Rename" not in str(caught.value)


@pytest.mark.parametrize("cells", [("1", "0"), ("True", "False"), ("1.0", "0.0")])
def test_a_single_column_of_0_and_1_is_told_how_to_write_one_class(root, cells):  # noqa: F811
    """It may be two classes, or one class and none."""
    with pytest.raises(UserError, match=r"one column of 0 and 1, 'cat'.*write cat for 1"):
        read_folder(write(root, *cells, header="image,cat"))


@pytest.mark.parametrize("name", ["background", "Ignored"])
def test_a_column_of_background_is_to_be_deleted(root, name):  # noqa: F811
    with pytest.raises(UserError, match=f"a column '{name}', which is no class. Delete it"):
        read_folder(write(root, "1,0,0", header=f"image,{name},cat,dog"))


@pytest.mark.parametrize(
    ("header", "cells"),
    [("image,label", ("cat", "1")), ("image,cat,dog", ("a,b",)), ("image,label,classes", ("1,0",))],
)
def test_other_tables_are_told_both_forms(root, header, cells):  # noqa: F811
    with pytest.raises(UserError, match=r"expected the header image,classes.*image,cat,dog"):
        read_folder(write(root, *cells, header=header))


def test_names_are_checked_against_classes_txt(root):  # noqa: F811
    (root / "classes.txt").write_text("traffic light\ncat\n")
    with pytest.raises(UserError, match="the class 'dog'"):
        read_folder(write(root, "1,1,0", header=HEADER))
    (root / "classes.txt").write_text("traffic light\ndog\ncat\n")
    assert read_folder(root).classes == ("traffic light", "dog", "cat")


def test_blank_lines_before_the_header_do_no_harm(root):  # noqa: F811
    write(root, "1,0,0", "0,1,0", header=f"\n\n{HEADER}")
    assert labels(root)["p0"] == ("traffic light",)

"""Words in the place of class names that say something else, and what a message then advises."""

from __future__ import annotations

import json

import pytest

from getam.data.check import check
from getam.data.folder import read_folder
from getam.errors import UserError
from tests.data.test_label_table import root, write  # noqa: F401


@pytest.mark.parametrize("names", [("True", "False"), ("yes", "no"), ("Y", "N"), ("true", "")])
def test_words_for_present_and_absent_are_no_classes(root, names):  # noqa: F811
    """An absent class would be learnt as an object of its own."""
    with pytest.raises(UserError, match="do not say what a photo shows"):
        read_folder(write(root, *names))
    (root / "classes.txt").write_text("\n".join(filter(None, names)))
    assert len(read_folder(root).classes) == len([*filter(None, names)])


@pytest.mark.parametrize("sign", ["+", "/", "&", " + ", "\uff1b", "\u3001"])
def test_classes_that_are_joined_are_not_a_third_class(root, sign):  # noqa: F811
    cells = ("cat;", f"cat{sign}dog;", "dog;")
    told = r"may be one class or the classes cat and dog.*as in other cells.*classes.txt"
    with pytest.raises(UserError, match=told):
        read_folder(write(root, *cells))
    (root / "labels.csv").unlink()
    table = {f"p{n}": [["cat"], [f"cat{sign}dog"], ["dog"]][n % 3] for n in range(10)}
    (root / "labels.json").write_text(json.dumps(table))
    with pytest.raises(UserError, match=r'classes cat and dog.*write \["cat", "dog"\]'):
        read_folder(root)
    (root / "classes.txt").write_text(f"cat\ndog\ncat{sign}dog\n")
    assert len(read_folder(root).classes) == 3


@pytest.mark.parametrize("sign", ["+", "&", "/"])
def test_a_sign_between_spaces_is_no_class(root, sign):  # noqa: F811
    """Where spaces separate classes, ``cat + dog`` would have the class ``+``."""
    with pytest.raises(UserError, match="as a class, expected a name"):
        read_folder(write(root, "cat", f"cat {sign} dog", "dog"))


def test_the_same_name_on_both_sides_is_a_name(root):  # noqa: F811
    assert read_folder(write(root, "C;", "C/C;")).classes == ("C", "C/C")


def test_a_name_with_such_a_sign_is_fine_where_its_parts_are_no_classes(root):  # noqa: F811
    assert read_folder(write(root, "cat/kitten;", "dog;")).classes == ("cat/kitten", "dog")


@pytest.mark.parametrize("table", ["image,classes\n", "image,classes\np0,\np1,\n"])
def test_a_table_without_a_class_is_told_to_have_one(root, table):  # noqa: F811
    (root / "labels.csv").write_text(table)
    with pytest.raises(UserError, match="got no class, expected the name of one class at least"):
        read_folder(root)


def test_a_class_list_in_one_line_is_told_to_be_one_class_a_line(root):  # noqa: F811
    (root / "classes.txt").write_text("pepper, red\npepper, green\n")
    with pytest.raises(UserError, match=r"expected one of classes\.txt"):
        read_folder(write(root, "red", "dog"))
    (root / "classes.txt").write_text("cat,dog\n")
    with pytest.raises(UserError, match=r"classes.txt: got 'cat,dog' as one class.*class a line"):
        read_folder(write(root, "cat", "dog"))


def test_no_class_list_without_a_class_is_suggested(root):  # noqa: F811
    (root / "classes.txt").write_text("Cat\nDog\n")
    problems: list[str] = []
    index = read_folder(write(root, "cat", "dog"), problems=problems)
    told = "\n".join(check(index, ("train", "val"), problems=problems)["problems"])
    assert "train has no photo of Cat, Dog" in told
    assert "data.classes" not in told


@pytest.mark.parametrize(
    "path", ["/data/photos/images/p{}.png", "C:\\photos\\p{}.png", "https://x.org/a/p{}.png"]
)
def test_another_path_before_the_name_of_a_photo_is_told(root, path):  # noqa: F811
    (root / "labels.csv").write_text(
        "\n".join(["image,classes", *(f"{path.format(n)},cat" for n in range(10))])
    )
    with pytest.raises(UserError, match=r"10 lines have another path.*write the name alone, 'p0'"):
        read_folder(root)
    write(root, "cat", "dog")
    (root / "splits").mkdir()
    (root / "splits" / "train.txt").write_text("\n".join(path.format(n) for n in range(8)))
    (root / "splits" / "val.txt").write_text("p8\np9\n")
    with pytest.raises(UserError, match=r"8 lines have another path.*write the name alone, 'p0'"):
        read_folder(root)


@pytest.mark.parametrize(
    "lines",
    ["1 cat\n2 dog\n", "0: cat\n1: dog\n", "cat,1\ndog,2\n", "1\tcat\n2\tdog\n", "1_cat\n2_dog\n"],
)
def test_a_class_list_with_ids_is_told_to_have_the_names_alone(root, lines):  # noqa: F811
    (root / "classes.txt").write_text(lines)
    with pytest.raises(UserError, match=r"classes.txt: got .*expected the names alone"):
        read_folder(write(root, "cat", "dog"))


@pytest.mark.parametrize(
    ("lines", "name"),
    [("route 66\nroute 67\n", "route"), ("2 dogs\ncat\n", "dogs"), ("part 1\npart 2\n", "part")],
)
def test_numbers_that_belong_to_the_names_are_left_alone(root, lines, name):  # noqa: F811
    (root / "classes.txt").write_text(lines)
    with pytest.raises(UserError, match=r"expected one of classes.txt .*Did you mean"):
        read_folder(write(root, name, name))

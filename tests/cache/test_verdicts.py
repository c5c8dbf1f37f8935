"""A check that found nothing wrong is made again as soon as anything that it depends on changes."""

from __future__ import annotations

import pytest

CHECK = """
    from pathlib import Path

    def check(job):
        with open(Path(__file__).with_name("asked.txt"), "a") as asked:
            asked.write(job.stage + " ")
        {reads}

    def run(job):
"""


@pytest.fixture
def checked(project):
    """The toy project; its stage labels has a check that reads `figures` alone."""
    with_check(project, "dict(job.config.figures)")
    return project


def with_check(project, reads: str) -> None:
    text = (project.root / "toysteps/labels.py").read_text()
    _, _, function = text.partition("def run(job):\n")
    check = "\n".join(line[4:] for line in CHECK.format(reads=reads).splitlines())
    head = "from toylib import write\n"
    (project.root / "toysteps/labels.py").write_text(f"{head}{check}\n{function}")


def asked(project, **options) -> bool:
    """Check a plan of all stages, and say whether labels was asked."""
    file = project.root / "toysteps/asked.txt"
    file.unlink(missing_ok=True)
    runner = project.runner(**options)
    runner.check(runner.plan())
    return file.exists()


def remember(project) -> None:
    """Begin a run that ends before its first stage."""
    runner = project.runner()
    runner.check(runner.plan())
    runner.run([])


def test_a_check_alone_writes_nothing(checked):
    assert asked(checked)
    assert not checked.artifacts.exists()
    assert asked(checked)


def test_a_check_that_found_nothing_wrong_is_not_made_again(checked):
    remember(checked)
    assert not asked(checked)


def test_a_changed_setting_that_the_check_read_is_looked_at(checked):
    remember(checked)
    checked.config["figures"]["title"] = "other"
    assert asked(checked)
    remember(checked)
    checked.config["figures"]["colours"].append("blue")
    assert asked(checked)
    remember(checked)
    checked.config["figures"]["new"] = 1  # it read the whole section
    assert asked(checked)


def test_a_changed_setting_that_the_check_did_not_read_is_no_reason_to_ask(checked):
    remember(checked)
    checked.config["seed"] = 5
    assert not asked(checked)


@pytest.mark.parametrize("reads", ["job.config.figures['title']", "job.config.figures.title"])
def test_one_setting_of_a_section_counts_alone(project, reads):
    with_check(project, reads)
    remember(project)
    project.config["figures"]["colours"] = []
    assert not asked(project)
    project.config["figures"]["title"] = "other"
    assert asked(project)


@pytest.mark.parametrize("reads", ["len(job.config)", "repr(job.config)", "list(job.config)"])
def test_a_look_at_all_settings_counts_for_all(project, reads):
    with_check(project, reads)
    remember(project)
    project.config["seed"] = 5
    assert asked(project)


def test_changed_data_are_looked_at(checked):
    remember(checked)
    checked.data["classes"]["dog"] = "2"
    assert asked(checked)


@pytest.mark.parametrize("path", ["toysteps/labels.py", "toylib/unused.py"])
def test_changed_code_is_asked_also_where_no_key_has_it(checked, path):
    remember(checked)
    with open(checked.root / path, "a") as file:
        file.write("# changed\n")
    assert asked(checked)


def test_other_versions_of_libraries_are_a_reason_to_ask(checked):
    remember(checked)
    assert asked(checked, circumstances=lambda: {"torch": "9"})


def test_a_check_that_refused_is_asked_again(project):
    with_check(project, "raise ValueError('no')")
    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            remember(project)
    runner = project.runner()
    runner.run([])
    with pytest.raises(ValueError, match="no"):
        asked(project)


@pytest.mark.parametrize("damage", [b"", b"nonsense", b"\xff" * 200])
def test_damaged_verdicts_are_no_verdicts(checked, damage):
    remember(checked)
    (checked.artifacts / ".cache/checks").write_bytes(damage)
    assert asked(checked)


def test_old_verdicts_are_dropped_and_new_ones_kept(checked, monkeypatch):
    monkeypatch.setattr("getam.cache.verdicts._REMEMBERED", 2)
    for number in range(4):
        checked.config["figures"]["title"] = str(number)
        remember(checked)
    assert not asked(checked)
    checked.config["figures"]["title"] = "0"
    assert asked(checked)

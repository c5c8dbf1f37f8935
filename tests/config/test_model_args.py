"""The default arguments of a network belong to the default network."""

from __future__ import annotations

import json

import pytest

from getam.config.base import SHAPES_VIT
from getam.config.loading import load_config, recorded

NETWORKS = [("classifier", "model"), ("endtoend", "model"), ("deeplab", "encoder")]


@pytest.mark.parametrize(("section", "name"), NETWORKS)
def test_another_network_has_no_arguments_but_its_own(section, name):
    """With those of the default one it would be that one, whatever its name."""
    given = [f"{section}.{name}=vit_small_patch16_224"]
    config = load_config((), given)
    assert dict(getattr(getattr(config, section), f"{name}_args")) == {}
    assert load_config((), (), recorded(config)) == config
    same = load_config((), [f"{section}.{name}=vit_tiny_patch16_224"])
    assert dict(getattr(getattr(same, section), f"{name}_args")) == dict(SHAPES_VIT)
    assert same == load_config()


@pytest.mark.parametrize("args", [{"depth": 4}, dict(SHAPES_VIT)])
@pytest.mark.parametrize(("section", "name"), NETWORKS)
def test_arguments_that_are_given_count(section, name, args):
    """Also those of the default network, and also in what is recorded."""
    given = [f"{section}.{name}=vit_small_patch16_224", f"{section}.{name}_args={json.dumps(args)}"]
    config = load_config((), given)
    assert dict(getattr(getattr(config, section), f"{name}_args")) == args
    assert load_config((), (), recorded(config)) == config

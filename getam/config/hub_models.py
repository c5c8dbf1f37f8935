"""Models of Hugging Face transformers in the settings: ``hf:OWNER/NAME`` or ``hf:FOLDER``.

Such a name becomes a ViT of timm with the same layers, its arguments and the file of its weights.
So no other part of the project knows of these names, and transformers is not needed. The folder or
the repository holds ``config.json`` and ``model.safetensors``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from getam.errors import UserError

__all__ = ["PREFIX", "in_terms_of_timm"]

PREFIX = "hf:"
_NAMES = {"classifier": "model", "endtoend": "model", "deeplab": "encoder"}
_OWN_WEIGHTS = ("shapes", "timm")  # values of the setting weights that become those of the model
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_IMAGENET, _HALF = (0.485, 0.456, 0.406), (0.5, 0.5, 0.5)
# Of each model_type in config.json: the model of timm by the mean of the photos' colours.
_TIMM = {
    "vit": {_HALF: "vit_base_patch16_224", _IMAGENET: "vit_base_patch16_224.dino"},
    "deit": {_IMAGENET: "deit_base_distilled_patch16_224"},
    "dinov2": {_IMAGENET: "vit_base_patch14_dinov2"},
    "dinov2_with_registers": {_IMAGENET: "vit_base_patch14_reg4_dinov2"},
}
_FIXED = {"hidden_act": "gelu", "num_channels": 3, "use_swiglu_ffn": False}


def arguments_of_others(
    given: Mapping[str, Any], usual: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """No arguments for each network that is not the default one, as the default ones are of it.

    Args:
        given: the settings that are given, by section.
        usual: the defaults of all settings.
    """
    return {
        section: {f"{name}_args": {}}
        for section, name in _NAMES.items()
        if given.get(section, {}).get(name, usual[section][name]) != usual[section][name]
    }


def in_terms_of_timm(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, with the name, arguments and weights of timm for each name that begins ``hf:``.

    Args:
        settings: all settings, by section.

    Raises:
        UserError: there is no such folder or repository, or it holds a model of another kind.
    """
    found = dict(settings)
    for section, name in _NAMES.items():
        given = settings[section]
        if not given[name].startswith(PREFIX):
            continue
        model, args, file = _read_model(f"{section}.{name}", given[name])
        arguments = f"{name}_args"
        changed = {name: model, arguments: {**args, **given[arguments]}}
        if given["weights"] in _OWN_WEIGHTS:
            changed["weights"] = str(file)
        found[section] = {**given, **changed}
    return found


def _read_model(setting: str, value: str) -> tuple[str, dict[str, Any], Path]:
    """The name in timm, the arguments, and the file of the weights."""
    place = value.removeprefix(PREFIX)
    if Path(place).expanduser().is_dir():
        folder = Path(place).expanduser().absolute()
    elif re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w.-]+)?", place):
        folder = _downloaded(setting, place)
    else:
        raise UserError(
            f"{setting}: got {value}, but there is no folder {place}. Expected hf: and a folder "
            "with config.json and model.safetensors, or hf:OWNER/NAME of the Hugging Face Hub."
        )
    config = _read_json(setting, folder / "config.json")
    files = [folder / name for name in _WEIGHTS if (folder / name).is_file()]
    if not files:
        raise UserError(
            f"{setting}: {folder} has no file of weights, expected {' or '.join(_WEIGHTS)}. Save "
            "the model again with save_pretrained, in one file."
        )
    return *_translated(setting, folder, config), files[0]


def _translated(
    setting: str, folder: Path, config: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    kind = config.get("model_type")
    odd = {name: config[name] for name, v in _FIXED.items() if config.get(name, v) != v}
    if kind not in _TIMM or odd:
        got = ", ".join(f"{name} {value!r}" for name, value in odd.items())
        raise UserError(
            f"{setting}: {folder / 'config.json'} has the model_type {kind!r}"
            f"{' with ' + got if got else ''}, expected one of {', '.join(_TIMM)} with the "
            "activation gelu. Choose such a model, or one of timm."
        )
    try:
        width, depth = config["hidden_size"], config["num_hidden_layers"]
        ratio = config["mlp_ratio"] if "dino" in kind else config["intermediate_size"] / width
        args = {
            "patch_size": config["patch_size"],
            "embed_dim": width,
            "depth": depth,
            "num_heads": config["num_attention_heads"],
            "mlp_ratio": ratio,
            "qkv_bias": config.get("qkv_bias", True),
        }
    except (KeyError, TypeError, ZeroDivisionError) as error:
        raise UserError(
            f"{setting}: {folder / 'config.json'} does not describe a ViT ({error!r}). Expected "
            "the file that save_pretrained of transformers writes."
        ) from None
    if kind == "dinov2_with_registers":
        args["reg_tokens"] = config.get("num_register_tokens", 4)
    return _by_colours(setting, folder, _TIMM[kind]), args


def _by_colours(setting: str, folder: Path, names: Mapping[tuple[float, ...], str]) -> str:
    """The model of timm that takes photos normalised as this one does."""
    file = folder / "preprocessor_config.json"
    mean = _read_json(setting, file).get("image_mean") if file.is_file() else None
    if mean is None:
        return next(iter(names.values()))
    if tuple(mean) not in names:
        raise UserError(
            f"{setting}: {file} has the image_mean {mean}, expected "
            f"{' or '.join(str(list(known)) for known in names)}. Choose another model."
        )
    return names[tuple(mean)]


def _read_json(setting: str, file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{setting}: cannot read {file} ({type(error).__name__}). Expected the JSON file that "
            "save_pretrained of transformers writes."
        ) from None
    if not isinstance(found, dict):
        raise UserError(f"{setting}: {file} holds no settings by name. Save the model again.")
    return found


def _downloaded(setting: str, place: str) -> Path:
    """The folder with the files of a repository; they are downloaded once."""
    from huggingface_hub import snapshot_download

    name, _, revision = place.partition("@")
    wanted = {"allow_patterns": ["*config.json", *_WEIGHTS[:1]], "revision": revision or None}
    try:
        try:
            return _complete(Path(snapshot_download(name, local_files_only=True, **wanted)))
        except OSError:  # LocalEntryNotFoundError is one
            return Path(snapshot_download(name, **wanted))
    except Exception as error:  # those of sockets, of the hub, of several HTTP libraries
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise UserError(
            f"{setting}: {PREFIX}{place} is not on this machine, and cannot be downloaded from the "
            f"Hugging Face Hub ({reason}). Check the name and the network; or save the model on "
            f"another machine, copy its folder here, and set {setting} to {PREFIX}FOLDER."
        ) from None


def _complete(folder: Path) -> Path:
    if not (folder / "config.json").is_file() or not (folder / _WEIGHTS[0]).is_file():
        raise FileNotFoundError(folder)
    return folder

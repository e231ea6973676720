"""The tokenizer of a checkpoint folder as `tokenizer.*` metadata, as llama.cpp's converter writes it."""

import re
from enum import IntEnum
from pathlib import Path

from qwen35_local import json_file
from qwen35_local.errors import FormatError
from qwen35_local.fields import OBJECTS, TEXT, Fields
from qwen35_local.other_file import other_file
from qwen35_local.quantize import sentencepiece_model

# Splits of `tokenizer.json`. The family's own pattern is this one with combining marks counted as letters.
_QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LOOKS_CONTROL = re.compile(r"<\|.*\|>", re.DOTALL)
_ROLES = {"bos": "bos_token", "eos": "eos_token", "padding": "pad_token", "unknown": "unk_token"}


class TokenType(IntEnum):
    """`tokenizer.ggml.token_type`; SentencePiece's numbers."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


def tokenizer_metadata(
    folder: Path, raw_config: dict[str, object], rows: int, warnings: list[str]
) -> dict[str, object]:
    """Vocabulary, special ids and chat template of the folder, padded to the `rows` of the embedding table.

    Raises FormatError when there is no tokenizer, it is of an unknown kind, or it has more tokens than `rows`."""
    settings = json_file.read_object_if_there(folder / "tokenizer_config.json")
    json_path, model_path = folder / "tokenizer.json", folder / "tokenizer.model"
    if json_path.exists():
        tokenizer = json_file.read_object(json_path, 256 << 20)
        if not model_path.exists() or _byte_level_splits(tokenizer) is not None:
            metadata = _byte_pairs(json_path, tokenizer, rows, warnings)
            return metadata | _special_ids(folder, raw_config, settings, metadata) | _template(folder, settings)
    if model_path.exists():
        metadata = _sentencepiece(model_path, settings, rows)
        return metadata | _special_ids(folder, raw_config, settings, metadata) | _template(folder, settings)
    raise FormatError(f"{folder}: no tokenizer.json or tokenizer.model here; download the tokenizer too.")


def _byte_pairs(path: Path, tokenizer: dict[str, object], rows: int, warnings: list[str]) -> dict[str, object]:
    model = tokenizer.get("model")
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE" or not isinstance(model.get("vocab"), dict):
        kind = model.get("type") if isinstance(model, dict) else None
        raise FormatError(f"{path}: the model is {kind!r}; expected byte-level BPE with a vocabulary.")
    splits = _byte_level_splits(tokenizer)
    if splits is None:
        raise FormatError(f"{path}: not a byte-level BPE (no ByteLevel pre-tokenizer).")
    ids: dict[int, tuple[str, TokenType]] = {}
    for token, number in model["vocab"].items():
        _place(path, ids, number, token, TokenType.NORMAL)
    added = tokenizer.get("added_tokens") or []
    if not isinstance(added, list):
        raise FormatError(f"{path}: added_tokens is not a list.")
    for token in added:
        if not isinstance(token, dict) or not isinstance(token.get("content"), str):
            raise FormatError(f"{path}: an entry of added_tokens has no content.")
        _place(path, ids, token.get("id"), token["content"], _added_type(token["content"], token.get("special")))
    metadata = _table(path, ids, rows)
    _check_split(path, splits, warnings)
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen35",
        **metadata,
        "tokenizer.ggml.merges": _merges(path, model.get("merges")),
        "tokenizer.ggml.add_bos_token": False,
    }


def _place(path: Path, ids: dict[int, tuple[str, TokenType]], number: object, token: str, kind: TokenType) -> None:
    if type(number) is not int or not 0 <= number < 1 << 24:
        raise FormatError(f"{path}: token {token[:40]!r} has id {str(number)[:20]}; expected 0 to 2^24.")
    before = ids.get(number)
    if before is not None and before[0] != token:
        raise FormatError(f"{path}: tokens {before[0][:40]!r} and {token[:40]!r} have the same id {number}.")
    ids[number] = (token, kind)


def _added_type(content: str, special: object) -> TokenType:
    """`<|...|>` counts as control whatever its flag, as in llama.cpp: user text must never become one."""
    return TokenType.CONTROL if special is True or _LOOKS_CONTROL.fullmatch(content) else TokenType.USER_DEFINED


def _table(path: Path, ids: dict[int, tuple[str, TokenType]], rows: int) -> dict[str, object]:
    if not ids:
        raise FormatError(f"{path}: no tokens; expected the vocabulary of the model.")
    last = max(ids)
    if last >= rows:
        raise FormatError(
            f"{path}: token {ids[last][0][:40]!r} has id {last}, but the embedding table has {rows} rows; tokenizer "
            "and weights are of different models."
        )
    listed = [ids.get(n, (f"[PAD{n}]", TokenType.UNUSED)) for n in range(rows)]
    return {
        "tokenizer.ggml.tokens": [token for token, _ in listed],
        "tokenizer.ggml.token_type": [int(kind) for _, kind in listed],
    }


def _merges(path: Path, merges: object) -> list[str]:
    """ "left right" strings from either spelling: one string, or a list of two without inner spaces."""
    if not isinstance(merges, list) or not merges:
        raise FormatError(f"{path}: no merges; expected the merge list of a BPE model.")
    joined = []
    for merge in merges:
        pair = merge.split(" ") if isinstance(merge, str) else merge
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(p, str) and " " not in p for p in pair):
            raise FormatError(f"{path}: the merge {str(merge)[:60]!r} is not two tokens.")
        joined.append(f"{pair[0]} {pair[1]}")
    return joined


def _byte_level_splits(tokenizer: dict[str, object]) -> list[str] | None:
    """The regexes a tokenizer.json cuts text with before its byte-level step; None when it has no such step."""
    root = tokenizer.get("pre_tokenizer")
    steps = root.get("pretokenizers", [root]) if isinstance(root, dict) else []
    steps = [step for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []
    if not any(step.get("type") == "ByteLevel" for step in steps):
        return None
    return [_described(step) for step in steps if step.get("type") == "Split"]


def _described(split: dict[str, object]) -> str:
    """The regex of a Split that keeps what matches and what lies between; else all that the step says."""
    pattern = split.get("pattern")
    regex = pattern.get("Regex") if isinstance(pattern, dict) else None
    is_plain = split.get("behavior", "Isolated") == "Isolated" and not split.get("invert")
    return regex if isinstance(regex, str) and is_plain else str(split)


def _check_split(path: Path, splits: list[str], warnings: list[str]) -> None:
    """The family cuts text as Qwen2 does, but for combining marks, which stay with their letters. Tokenizers saved by
    some versions of transformers have Qwen2's pattern, which the model was not trained with. Raises FormatError."""
    if len(splits) != 1 or splits[0].replace(r"[\p{L}\p{M}]", r"\p{L}").replace(r"\p{M}", "") != _QWEN2_SPLIT:
        raise FormatError(
            f"{path}: cuts text with {'; '.join(splits)[:200] or 'no pattern'!r}; known: those of Qwen2, Qwen3.5."
        )
    if splits[0].count(r"\p{M}") < 2:
        warnings.append(
            f"{path.name} cuts text as Qwen2 does, without combining marks; written with Qwen3.5's pattern (qwen35)"
        )


def _sentencepiece(path: Path, settings: dict[str, object], rows: int) -> dict[str, object]:
    model = sentencepiece_model.read(path)
    ids = {n: (piece.text, TokenType(piece.kind)) for n, piece in enumerate(model.pieces)}
    added = settings.get("added_tokens_decoder")
    for number, token in added.items() if isinstance(added, dict) else ():
        content = token.get("content") if isinstance(token, dict) else None
        if number.isdecimal() and isinstance(content, str) and (int(number) >= len(model.pieces)):
            _place(path, ids, int(number), content, _added_type(content, token.get("special")))
    metadata = _table(path, ids, rows)
    scores = [piece.score for piece in model.pieces]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        **metadata,
        "tokenizer.ggml.scores": scores + [-1000.0] * (rows - len(scores)),
        "tokenizer.ggml.add_space_prefix": model.adds_space_prefix,
        "tokenizer.ggml.remove_extra_whitespaces": model.collapses_spaces,
        "tokenizer.ggml.add_bos_token": settings.get("add_bos_token") is True,
    }


def _special_ids(
    folder: Path, raw_config: dict[str, object], settings: dict[str, object], vocabulary: dict[str, object]
) -> dict[str, object]:
    """Ids by role: what tokenizer_config.json names, else what generation_config.json, else config.json numbers."""
    tokens, kinds = vocabulary["tokenizer.ggml.tokens"], vocabulary["tokenizer.ggml.token_type"]
    assert isinstance(tokens, list) and isinstance(kinds, list)
    text_config = raw_config.get("text_config")
    scopes = [json_file.read_object_if_there(folder / "generation_config.json"), text_config, raw_config]
    found: dict[str, object] = {}
    for role, key in _ROLES.items():
        named = settings.get(key)
        named = named.get("content") if isinstance(named, dict) else named
        number: object = tokens.index(named) if isinstance(named, str) and named in tokens else None
        for scope in scopes:
            if number is None and isinstance(scope, dict):
                number = scope.get(f"{key}_id")
                number = number[0] if isinstance(number, list) and number else number
        if type(number) is int and 0 <= number < len(tokens) and kinds[number] != TokenType.UNUSED:
            found[f"tokenizer.ggml.{role}_token_id"] = number
    if "tokenizer.ggml.eos_token_id" not in found:
        raise FormatError(
            f"{folder}: no end-of-text token; expected eos_token in tokenizer_config.json, eos_token_id in config.json."
        )
    return found


def _template(folder: Path, settings: dict[str, object]) -> dict[str, object]:
    path = folder / "chat_template.jinja"
    if path.exists():
        try:
            data = path.read_bytes()[: 1 << 20]
            text = data.decode("utf-8-sig")
        except (OSError, UnicodeError) as error:
            raise FormatError(f"{path}: cannot be read as UTF-8 text ({error}).") from error
        if (what := other_file(data[:512])) is not None:
            raise FormatError(f"{path}: no chat template: {what}.")
        return {"tokenizer.chat_template": text}
    alone = json_file.read_object_if_there(folder / "chat_template.json")
    for values, file in ((settings, "tokenizer_config.json"), (alone, "chat_template.json")):
        if template := _named_template(f"{folder / file}: ", values):
            return {"tokenizer.chat_template": template}
    return {}


def _named_template(where: str, values: dict[str, object]) -> str | None:
    """`chat_template`: a text, or a list of {"name", "template"}, of which the default counts, or the only one."""
    template = values.get("chat_template")
    if not isinstance(template, list):
        return Fields(values, where).find("chat_template", TEXT)
    each = [Fields(entry, f"{where}chat_template: ") for entry in Fields(values, where).need("chat_template", OBJECTS)]
    texts = {fields.need("name", TEXT): fields.need("template", TEXT) for fields in each}
    if not texts:
        return None
    if "default" not in texts and len(texts) > 1:
        raise FormatError(f"{where}chat_template has {', '.join(texts)}; expected one of them to be the 'default'.")
    return texts["default"] if "default" in texts else next(iter(texts.values()))

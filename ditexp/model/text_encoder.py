"""Prompts to hidden states, with a Hugging Face tokenizer and encoder such as those of T5, CLIP or BERT."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ditexp.files.atomic import atomic
from ditexp.files.content import changed, hashes
from ditexp.files.libraries import import_transformers
from ditexp.files.reading import unfit
from ditexp.files.stamps import files_below
from ditexp.terminal.notices import in_line, notice

TOKENIZER_FILE, ENCODER_FILE = "tokenizer_config.json", "config.json"  # every tokenizer and every encoder has one
TOKENIZER, ENCODER = "tokenizer", "text_encoder"  # their folders in the folder of a model, named as in diffusers
NO_CODE = {"trust_remote_code": False}  # also keeps transformers from asking whether a model's own code may run


class TextEncoder(nn.Module):
    """A tokenizer and the encoder of its tokens, with the interface of transformers, which is an optional package.

    max_length: the number of tokens that a prompt is padded to; a longer one is cut off, with a notice.
    width: D of the hidden states.
    """

    def __init__(self, tokenizer: Any, encoder: Any, max_length: int, identity: dict | None = None) -> None:
        super().__init__()
        self.identity = identity
        self.tokenizer: Any = tokenizer
        self.encoder: Any = encoder
        self.max_length = max_length
        self.width: int = encoder.config.hidden_size

    @classmethod
    def load(cls, tokenizer: str, encoder: str, max_length: int | None = None) -> TextEncoder:
        """From folders, or names on the Hugging Face hub. max_length: None for the limit of the tokenizer.

        Raises ValueError if there is no such encoder, or the tokenizer has no limit.
        """
        transformers = import_transformers()
        local = {source: contents(source) for source in (tokenizer, encoder) if Path(source).is_dir()}
        wrong = f"no tokenizer at {tokenizer}"
        try:
            words = transformers.AutoTokenizer.from_pretrained(tokenizer, **NO_CODE)
            wrong = f"no text encoder at {encoder}"
            config = transformers.AutoConfig.from_pretrained(encoder, **NO_CODE)
            # T5's AutoModel would load the decoder too; only AutoModel knows CLIP's text model.
            encoders = transformers.AutoModelForTextEncoding
            kind = encoders if type(config) in encoders._model_mapping else transformers.AutoModel
            network, report = kind.from_pretrained(encoder, config=config, output_loading_info=True, **NO_CODE)
            # A pooler comes after the hidden states, and is often absent. transformers initializes what is missing.
            if missing := sorted(key for key in report["missing_keys"] if not key.startswith("pooler.")):
                raise ValueError(f"{len(missing)} weights are missing, such as {missing[0]}")
        except Exception as error:  # transformers raises nearly anything for damaged files
            if isinstance(error, pickle.UnpicklingError):
                reason = (
                    "its weights are damaged, or a pickle with code, which is never run (docs/checkpoint.md, A pickle)"
                )
            else:
                reason = in_line(" ".join(str(error).split()), 100)
            raise ValueError(f"{wrong} ({reason}): give what save_pretrained wrote, or a name on the hub") from None
        if network.dtype != torch.float32:
            notice(f"{encoder} holds weights in {str(network.dtype)[6:]}, which are converted to float32")
            network.float()
        limit = max_length or words.model_max_length
        if limit > 100_000:  # transformers' placeholder for "unknown"
            raise ValueError(f"the tokenizer {tokenizer} has no limit of tokens: give model.max_length")
        for source, before in local.items():
            if contents(source) != before:
                raise changed(source)
        identity = {
            "tokenizer": local.get(tokenizer) or {"name": tokenizer, "commit": commit_of(tokenizer, TOKENIZER_FILE)},
            "encoder": local.get(encoder) or {"name": encoder, "commit": commit_of(encoder, ENCODER_FILE)},
        }
        return cls(words, network, limit, identity)

    @classmethod
    def new(cls, *, words: str, hidden_size: int, depth: int, num_heads: int, max_length: int) -> TextEncoder:
        """T5's encoder (Raffel et al. 2020) with random weights.

        words: its vocabulary, separated by spaces; all other words become one unknown word.
        """
        transformers = import_transformers()
        tokenizer = word_tokenizer(words.split(), max_length)
        config = transformers.T5Config(
            vocab_size=len(tokenizer),
            d_model=hidden_size,
            d_kv=hidden_size // num_heads,
            d_ff=2 * hidden_size,
            num_layers=depth,
            num_heads=num_heads,
            dropout_rate=0.0,
            is_encoder_decoder=False,
            use_cache=False,
        )
        return cls(tokenizer, transformers.T5EncoderModel(config), max_length)

    def save(self, folder: Path) -> None:
        for name, part in ((TOKENIZER, self.tokenizer), (ENCODER, self.encoder)):
            shutil.rmtree(folder / name, ignore_errors=True)  # left by a training that was killed
            with atomic(folder / name) as temporary:
                part.save_pretrained(temporary)
                for file in temporary.glob("*.safetensors"):  # written readable by their owner only
                    shutil.copymode(temporary / "config.json", file)

    def forward(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Hidden states (B, L, D), and a mask (B, L) bool, true for tokens and false for padding."""
        tokens = self.tokenizer(
            list(prompts), padding="max_length", max_length=self.max_length, truncation=True, return_tensors="pt"
        ).to(self.encoder.device)
        states = self.encoder(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state
        return states, tokens.attention_mask.bool()

    def notice_truncation(self, prompts: Iterable[str]) -> None:
        """Print a notice for each prompt that is cut off."""
        for prompt in prompts:
            if (count := len(self.tokenizer(prompt).input_ids)) > self.max_length:
                notice(f"a prompt of {count} tokens is cut off at the model's {self.max_length}: {prompt!r}")


def contents(folder: str) -> dict[str, str]:
    """The sha256 of every file below a folder that a library may read: all but hidden files and Markdown."""
    for entry in os.scandir(folder):
        if not entry.is_file() and not entry.is_dir():  # reading it might block for ever
            raise unfit(entry.path, "is neither a file nor a folder", "remove it")
    names = [file.relative_to(folder) for file in files_below(folder)]
    names = [name for name in names if name.suffix != ".md" and not any(part.startswith(".") for part in name.parts)]
    return dict(zip(map(Path.as_posix, names), hashes([Path(folder, name) for name in names], title=folder)))


def commit_of(name: str, file: str) -> str:
    """The commit of a hub repository that is on this disk: the name of the folder that its files are in.

    A tokenizer object does not know it. Raises ValueError if the file is not in the hub's cache.
    """
    from transformers.utils import cached_file

    path = cached_file(name, file, _raise_exceptions_for_missing_entries=False)
    if path is None:
        raise ValueError(f"{name} has no {file}, whose folder is named by the commit: download it, and give the folder")
    return Path(path).parent.name


def word_tokenizer(words: Sequence[str], max_length: int) -> Any:
    """Each word and punctuation mark is one token, in lower case; one more token ends every prompt."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    padding, end, unknown = special = ("<pad>", "</s>", "<unk>")
    vocabulary = {word: number for number, word in enumerate((*special, *words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=unknown))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {end}", special_tokens=[(end, vocabulary[end])]
    )
    names = {"pad_token": padding, "eos_token": end, "unk_token": unknown}
    return import_transformers().PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=max_length, **names
    )

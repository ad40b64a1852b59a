"""Prompts as a network sees them: by a Hugging Face tokenizer and encoder, those of T5, CLIP, BERT and their kind."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ditexp.files.atomic import atomic
from ditexp.files.content import changed, hashes
from ditexp.files.reading import unfit
from ditexp.files.stamps import files_below
from ditexp.terminal.notices import in_line, notice

TOKENIZER_FILE, ENCODER_FILE = "tokenizer_config.json", "config.json"  # which every one of them has
TOKENIZER, ENCODER = "tokenizer", "text_encoder"  # the folders of both in a model's, named as diffusers does
NO_CODE = {"trust_remote_code": False}  # nor is the user asked whether a model's own code may run


class TextEncoder(nn.Module):
    """A tokenizer and the encoder of its tokens, in transformers' interface.

    max_length: tokens a prompt is padded to, and cut off at with a notice.
    """

    def __init__(self, tokenizer, encoder: nn.Module, max_length: int, identity: dict | None = None):
        super().__init__()
        self.identity = identity
        self.tokenizer, self.encoder, self.max_length = tokenizer, encoder, max_length
        self.width = encoder.config.hidden_size

    @classmethod
    def load(cls, tokenizer: str, encoder: str, max_length: int | None = None) -> TextEncoder:
        """From folders, or names on the Hugging Face hub; max_length: None for the tokenizer's own.

        Raises ValueError where there is none, or the tokenizer knows no limit.
        """
        transformers = import_transformers()
        local = {source: contents(source) for source in (tokenizer, encoder) if Path(source).is_dir()}
        wrong = f"no tokenizer at {tokenizer}"
        try:
            words = transformers.AutoTokenizer.from_pretrained(tokenizer, **NO_CODE)
            wrong = f"no text encoder at {encoder}"
            config = transformers.AutoConfig.from_pretrained(encoder, **NO_CODE)
            # T5's AutoModel would load its decoder, too; CLIP's text model is known to AutoModel alone.
            encoders = transformers.AutoModelForTextEncoding
            kind = encoders if type(config) in encoders._model_mapping else transformers.AutoModel
            network, report = kind.from_pretrained(encoder, config=config, output_loading_info=True, **NO_CODE)
            # A pooler is behind the hidden states, and often left out.
            if missing := sorted(key for key in report["missing_keys"] if not key.startswith("pooler.")):
                # Which transformers would leave to chance.
                raise ValueError(f"{len(missing)} weights are missing, such as {missing[0]}")
        except Exception as error:  # transformers raises nearly anything for damaged files
            if isinstance(error, pickle.UnpicklingError):
                error = "its weights are damaged, or a pickle with code, which is never run"
            reason = in_line(" ".join(str(error).split()), 100)
            raise ValueError(f"{wrong} ({reason}): give what save_pretrained wrote, or a name on the hub") from None
        if network.dtype != torch.float32:
            notice(f"{encoder} holds weights in {str(network.dtype)[6:]}, which are converted to float32")
            network.float()
        limit = max_length or words.model_max_length
        if limit > 100_000:  # transformers' stand-in for "not known"
            raise ValueError(f"the tokenizer {tokenizer} tells no limit of tokens: give model.max_length")
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

        words: those it tells apart, with spaces between; all others are one unknown word.
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
            shutil.rmtree(folder / name, ignore_errors=True)  # of a training that was killed before its end
            with atomic(folder / name) as temporary:
                part.save_pretrained(temporary)
                for file in temporary.glob("*.safetensors"):  # which only their owner could read
                    shutil.copymode(temporary / "config.json", file)

    def forward(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Hidden states (B, L, D), and a mask (B, L) bool that is true where there are tokens and no padding."""
        tokens = self.tokenizer(
            list(prompts), padding="max_length", max_length=self.max_length, truncation=True, return_tensors="pt"
        ).to(self.encoder.device)
        states = self.encoder(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state
        return states, tokens.attention_mask.bool()

    def tell_of_truncation(self, prompts: Iterable[str]) -> None:
        for prompt in prompts:
            if (count := len(self.tokenizer(prompt).input_ids)) > self.max_length:
                notice(f"a prompt of {count} tokens is cut off at the model's {self.max_length}: {prompt!r}")


def contents(folder: str) -> dict[str, str]:
    """The sha256 of every file below a folder that a library may read: all but hidden ones and those for people."""
    for entry in os.scandir(folder):
        if not entry.is_file() and not entry.is_dir():  # whose reader might wait for ever
            raise unfit(entry.path, "is neither a file nor a folder", "remove it")
    names = [file.relative_to(folder) for file in files_below(folder)]
    names = [name for name in names if name.suffix != ".md" and not any(part.startswith(".") for part in name.parts)]
    return dict(zip(map(Path.as_posix, names), hashes([Path(folder, name) for name in names], title=folder)))


def commit_of(name: str, file: str) -> str:
    """Which commit of a repository on the hub is on this disk: the folder of any of its files is named by it.

    A tokenizer doesn't tell. Raises ValueError if the file is not in the hub's cache.
    """
    from transformers.utils import cached_file

    path = cached_file(name, file, _raise_exceptions_for_missing_entries=False)
    if path is None:
        raise ValueError(f"{name} has no {file}, which tells its commit: download it, and give the folder")
    return Path(path).parent.name


def word_tokenizer(words: Sequence[str], max_length: int):
    """Words and punctuation marks are a token each, in lower case, and one more ends every prompt."""
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


def import_transformers():
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    try:
        import transformers
    except ImportError:
        raise ValueError("text takes transformers and tokenizers: pip install 'ditexp[text]'") from None
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers

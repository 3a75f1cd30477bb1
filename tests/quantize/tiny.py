"""A tiny Llama model of our own, and what it computes, by the formulas of transformers.

`logits` is the referee of exports: it follows modeling_llama.py (RMSNorm, rotary positions
by `rotate_half`, grouped-query attention, SwiGLU), shares no code with the product, and
needs no torch.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Digits, Metaspace, Punctuation, Sequence
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer

from quantize.gates.sample_texts import texts

Weights = dict[str, NDArray[Any]]

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 1024,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10_000.0,
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
LLAMA_3_ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def weights(config: dict[str, Any], seed: int = 1) -> Weights:
    """Random weights under Hugging Face's names, of a size that keeps logits apart."""
    dice = np.random.default_rng(seed)
    width, inner, vocab = (
        config[key] for key in ("hidden_size", "intermediate_size", "vocab_size")
    )
    d = config["head_dim"]
    q, kv = config["num_attention_heads"] * d, config["num_key_value_heads"] * d

    def matrix(rows: int, columns: int) -> NDArray[np.float32]:
        return (dice.standard_normal((rows, columns)) / np.sqrt(columns) * 2).astype(np.float32)

    def norm() -> NDArray[np.float32]:
        return (1 + 0.1 * dice.standard_normal(width)).astype(np.float32)

    made = {"model.embed_tokens.weight": matrix(vocab, width), "model.norm.weight": norm()}
    if not config["tie_word_embeddings"]:
        made["lm_head.weight"] = matrix(vocab, width)
    for n in range(config["num_hidden_layers"]):
        at = f"model.layers.{n}"
        made[f"{at}.input_layernorm.weight"] = norm()
        made[f"{at}.post_attention_layernorm.weight"] = norm()
        made[f"{at}.self_attn.q_proj.weight"] = matrix(q, width)
        made[f"{at}.self_attn.k_proj.weight"] = matrix(kv, width)
        made[f"{at}.self_attn.v_proj.weight"] = matrix(kv, width)
        made[f"{at}.self_attn.o_proj.weight"] = matrix(width, q)
        made[f"{at}.mlp.gate_proj.weight"] = matrix(inner, width)
        made[f"{at}.mlp.up_proj.weight"] = matrix(inner, width)
        made[f"{at}.mlp.down_proj.weight"] = matrix(width, inner)
    return made


def tokenizer(config: dict[str, Any]) -> Tokenizer:
    """A byte-level tokenizer with SmolLM's rules, trained on the sample texts."""
    made = Tokenizer(BPE())
    made.pre_tokenizer = Sequence(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
    )
    made.decoder = ByteLevelDecoder()
    special = ["<|im_start|>", "<|im_end|>"]
    trainer = BpeTrainer(
        vocab_size=config["vocab_size"] - 4,
        special_tokens=[AddedToken(token, normalized=False) for token in special],
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(texts(2000), trainer)
    return made


def llama_2(config: dict[str, Any]) -> Tokenizer:
    """One with byte fallback, as transformers makes it from Llama 2’s.

    Every pair that makes a token is a merge, as in SentencePiece; of Lucie’s tokens only the
    pair of which training made it.
    """
    made = _with_fallback(["<unk>", "<s>", "</s>"], config, complete=True)
    made.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
         decoders.Strip(" ", 1, 0)]
    )  # fmt: skip
    return made


def lucie(config: dict[str, Any]) -> Tokenizer:
    """One as Lucie’s: a space goes behind what opens, and the decoder takes it away."""
    made = _with_fallback(["<s>", "</s>", "<unk>", "<pad>"], config, complete=False)
    opening = "\n\t([{/<'’\"«“‘‚‹—–―"
    made.normalizer = normalizers.Sequence(
        [
            normalizers.NFC(),
            normalizers.Replace(Regex(r"[\r\x00]"), ""),
            *(
                normalizers.Replace(Regex(rf"{re.escape(char)}(?=[ \w])"), f"{char} ")
                for char in opening
            ),
            normalizers.Prepend(" "),
            normalizers.Replace(Regex("[ \u00a0]"), "▁"),
        ]
    )
    made.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Metaspace(), decoders.Fuse(),
         *(decoders.Replace(f"{char} ", char) for char in opening)]
    )  # fmt: skip
    return made


def _with_fallback(special: list[str], config: dict[str, Any], *, complete: bool) -> Tokenizer:
    words = Tokenizer(BPE())
    words.pre_tokenizer = Sequence([Metaspace(), Digits(individual_digits=True), Punctuation()])
    known = [*special, *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = BpeTrainer(
        vocab_size=config["vocab_size"] - len(known), limit_alphabet=120, show_progress=False
    )
    words.train_from_iterator(texts(2000), trainer)
    trained = json.loads(words.to_str())["model"]
    tokens = [*known, *sorted(trained["vocab"], key=trained["vocab"].__getitem__)]
    vocab = {token: id_ for id_, token in enumerate(tokens)}
    merges = [tuple(pair) for pair in trained["merges"]]
    if complete:
        merges = [
            (token[:cut], token[cut:])
            for token in ["".join(pair) for pair in merges]
            for cut in range(1, len(token))
            if token[:cut] in vocab and token[cut:] in vocab
        ]
    made = Tokenizer(BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    made.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", vocab["<s>"])]
    )
    return made


def write(
    folder: Path, config: dict[str, Any], content: Weights, words: Tokenizer | None = None
) -> Path:
    """A Hugging Face folder; `words` instead of the byte-level tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (words or tokenizer(config)).save(str(folder / "tokenizer.json"))
    named = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "tokenizer_class": "X"}
    if words is not None:
        named |= {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(named))
    save_file(content, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def prose(count: int) -> list[str]:
    """Texts that spell no control token, which a model is not given as text."""
    return [text for text in texts(count) if "<|" not in text]


def logits(config: dict[str, Any], given: Weights, ids: list[int]) -> NDArray[np.float64]:
    """[T, V] logits after each of T tokens."""
    w = {name: tensor.astype(np.float64) for name, tensor in given.items()}
    heads, kv_heads, d = (
        config[key] for key in ("num_attention_heads", "num_key_value_heads", "head_dim")
    )
    cos, sin = _rotary(config, len(ids))
    x = w["model.embed_tokens.weight"][ids]  # [T, W]
    mask = np.triu(np.full((len(ids), len(ids)), -np.inf), 1)

    def norm(x: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        scale = np.sqrt((x * x).mean(axis=-1, keepdims=True) + config["rms_norm_eps"])
        return x / scale * w[name]

    def split(x: NDArray[np.float64], n: int) -> NDArray[np.float64]:
        return x.reshape(len(ids), n, d).swapaxes(0, 1)  # [H, T, d]

    def rotate(x: NDArray[np.float64]) -> NDArray[np.float64]:
        half = np.concatenate([-x[..., d // 2 :], x[..., : d // 2]], axis=-1)
        return x * cos + half * sin

    for n in range(config["num_hidden_layers"]):
        at = f"model.layers.{n}"
        y = norm(x, f"{at}.input_layernorm.weight")
        q = rotate(split(y @ w[f"{at}.self_attn.q_proj.weight"].T, heads))
        k = rotate(split(y @ w[f"{at}.self_attn.k_proj.weight"].T, kv_heads))
        v = split(y @ w[f"{at}.self_attn.v_proj.weight"].T, kv_heads)
        k, v = (np.repeat(each, heads // kv_heads, axis=0) for each in (k, v))
        scores = q @ k.swapaxes(1, 2) / np.sqrt(d) + mask
        share = np.exp(scores - scores.max(axis=-1, keepdims=True))
        share /= share.sum(axis=-1, keepdims=True)
        mixed = (share @ v).swapaxes(0, 1).reshape(len(ids), heads * d)
        x = x + mixed @ w[f"{at}.self_attn.o_proj.weight"].T
        y = norm(x, f"{at}.post_attention_layernorm.weight")
        gate = y @ w[f"{at}.mlp.gate_proj.weight"].T
        gate = gate / (1 + np.exp(-gate))
        inner = gate * (y @ w[f"{at}.mlp.up_proj.weight"].T)
        x = x + inner @ w[f"{at}.mlp.down_proj.weight"].T
    head = w.get("lm_head.weight", w["model.embed_tokens.weight"])
    result: NDArray[np.float64] = norm(x, "model.norm.weight") @ head.T
    return result


def _rotary(config: dict[str, Any], n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    d = config["head_dim"]
    frequencies = config["rope_theta"] ** -(np.arange(0, d, 2) / d)
    scaling = config.get("rope_scaling")
    if scaling and scaling["rope_type"] == "llama3":
        # transformers, _compute_llama3_parameters
        window, factor = scaling["original_max_position_embeddings"], scaling["factor"]
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        length = 2 * np.pi / frequencies
        smooth = (window / length - low) / (high - low)
        between = (1 - smooth) * frequencies / factor + smooth * frequencies
        frequencies = np.where(
            length > window / low,
            frequencies / factor,
            np.where(length < window / high, frequencies, between),
        )
    angles = np.outer(np.arange(n), frequencies)
    angles = np.concatenate([angles, angles], axis=-1)
    return np.cos(angles), np.sin(angles)

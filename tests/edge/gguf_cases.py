"""Ways to spoil a tiny model, each with the code of the error that must come of it."""

from __future__ import annotations

from collections.abc import Callable

from edge.gguf_types import ValueType
from tests.edge.gguf_files import ARRAY, BOOL, F32, I32, STRING, U32, Model, Tensor, Value

U16, U64 = ValueType.UINT16, ValueType.UINT64


def pairs(**values: tuple[int, object]) -> Callable[[Model], None]:
    """Set keys, in whose names `__` stands for a dot."""

    def change(model: Model) -> None:
        for name, (kind, value) in values.items():
            model.set(name.replace("__", "."), kind, value)

    return change


def without(*keys: str) -> Callable[[Model], None]:
    def change(model: Model) -> None:
        for key in keys:
            del model.pairs[key]

    return change


def tensor(name: str, **values: object) -> Callable[[Model], None]:
    def change(model: Model) -> None:
        for attribute, value in values.items():
            setattr(model.tensors[name], attribute, value)

    return change


def tokens(change: Callable[[list[str]], object]) -> Callable[[Model], None]:
    def apply(model: Model) -> None:
        change(model.pairs["tokenizer.ggml.tokens"].value)

    return apply


def array(key: str, values: list[object], element: int) -> Callable[[Model], None]:
    return lambda model: model.set(key, ARRAY, values, element)


def renamed(old: str, new: str) -> Callable[[Model], None]:
    def change(model: Model) -> None:
        model.tensors[new] = model.tensors.pop(old)

    return change


def added(name: str, shape: tuple[int, ...]) -> Callable[[Model], None]:
    return lambda model: model.tensors.update({name: Tensor(shape)})


def again(*keys: str) -> Callable[[Model], None]:
    return lambda model: model.extra_pairs.extend((key, Value(U32, 1)) for key in keys)


Q, NORM = "blk.0.attn_q.weight", "blk.0.attn_norm.weight"
LLAMA = [
    ("architecture", pairs(general__architecture=(STRING, "mamba"))),
    ("architecture", without("general.architecture")),
    ("split", pairs(split__count=(U16, 3))),
    ("key-type", pairs(split__count=(U32, 1))),
    ("key-type", pairs(general__file_type=(STRING, "Q4_1"))),
    ("unknown-key", pairs(general__tensor_extra__name=(U32, 1))),
    ("unknown-key", pairs(llama__new_trick=(U32, 1))),
    ("setting", pairs(llama__expert_count=(U32, 8))),
    ("setting", pairs(llama__pooling_type=(U32, 1))),
    ("setting", pairs(llama__attention__causal=(BOOL, False))),
    ("setting", pairs(llama__rope__scaling__type=(STRING, "su"))),
    ("layers-differ", array("llama.attention.head_count_kv", [2, 4], U32)),
    ("key-type", array("llama.attention.head_count_kv", [2.0, 2.0], F32)),
    ("key-type", array("llama.embedding_length", [64, 64], U32)),
    ("key-value", array("llama.feed_forward_length", [96], U32)),
    ("key-value", array("llama.feed_forward_length", [0, 0], U32)),
    ("key-value", array("llama.feed_forward_length", [96] * 513, U32)),
    ("version", lambda model: setattr(model, "version", 1)),
    ("version", lambda model: setattr(model, "version", 4)),
    ("version", lambda model: setattr(model, "version", 0)),
    ("big-endian", lambda model: setattr(model, "version", 3 << 24)),
    ("tokenizer", pairs(tokenizer__ggml__model=(STRING, "bert"))),
    ("tokenizer", without("tokenizer.ggml.model")),
    ("pre-tokenizer", pairs(tokenizer__ggml__pre=(STRING, "whitespace"))),
    ("missing-key", without("tokenizer.ggml.tokens")),
    ("missing-key", without("tokenizer.ggml.merges")),
    ("missing-key", array("tokenizer.ggml.merges", [1, 2], U32)),
    ("missing-key", array("tokenizer.ggml.tokens", [1] * 300, U32)),
    ("too-few-tokens", tokens(lambda t: t.__delitem__(slice(200, None)))),
    ("duplicate-tokens", tokens(lambda t: t.__setitem__(7, t[8]))),
    ("duplicate-tokens", tokens(lambda t: t.__setitem__(slice(7, 9), ["", "[EMPTY_7]"]))),
    ("duplicate-tokens", tokens(lambda t: t.__setitem__(slice(7, 9), ["x\0y", "x\0z"]))),
    ("tokens-too-long", tokens(lambda t: t.__setitem__(7, "x" * 20_000))),
    ("string-too-long", tokens(lambda t: t.__setitem__(7, "x" * (1 << 20)))),
    ("array-length", tokens(lambda t: t.append("one more"))),
    ("array-length", array("tokenizer.ggml.scores", [0.0] * 301, F32)),
    ("key-type", array("tokenizer.ggml.token_type", [1] * 300, U32)),
    ("key-type", pairs(tokenizer__ggml__token_type=(U32, 1))),
    ("key-type", pairs(tokenizer__ggml__add_bos_token=(U32, 1))),
    ("key-type", pairs(tokenizer__ggml__padding_token_id=(I32, 1))),
    ("token-id", pairs(tokenizer__ggml__eos_token_id=(U32, 300))),
    ("missing-key", without("llama.embedding_length")),
    ("missing-key", without("llama.attention.layer_norm_rms_epsilon")),
    ("key-type", pairs(llama__embedding_length=(I32, 64))),
    ("key-type", pairs(llama__rope__freq_base=(U32, 10000))),
    ("key-value", pairs(llama__block_count=(U32, 0))),
    ("key-value", pairs(llama__block_count=(U32, 513))),
    ("key-value", pairs(llama__context_length=(U32, 0))),
    ("key-value", pairs(llama__context_length=(U32, 7))),
    ("key-value", pairs(llama__attention__head_count=(U32, 0))),
    ("key-value", pairs(llama__attention__head_count_kv=(U32, 0))),
    ("key-value", pairs(llama__attention__head_count_kv=(U32, 3))),
    ("key-value", pairs(llama__attention__key_length=(U32, 15))),
    ("key-value", pairs(llama__rope__dimension_count=(U32, 8))),
    ("key-value", pairs(llama__attention__layer_norm_rms_epsilon=(F32, float("nan")))),
    ("key-value", pairs(llama__attention__layer_norm_rms_epsilon=(F32, -1e-5))),
    ("key-value", pairs(llama__rope__freq_base=(F32, 0.0))),
    ("key-value", pairs(llama__rope__scaling__factor=(F32, float("inf")))),
    ("key-differs", pairs(llama__vocab_size=(U32, 299))),
    ("key-differs", pairs(llama__attention__value_length=(U32, 8))),
    ("key-differs", pairs(llama__attention__key_length_swa=(U32, 8))),
    ("missing-tensor", pairs(llama__block_count=(U32, 3))),
    ("missing-tensor", lambda model: model.tensors.pop(Q)),
    ("unexpected-tensor", pairs(llama__block_count=(U32, 1))),
    ("unexpected-tensor", added("blk.0.attn_q.scale", (1,))),
    ("unexpected-tensor", added("cls.output.weight", (64, 1))),
    ("tensor-shape", tensor(Q, shape=(64, 32))),
    ("tensor-shape", tensor(Q, shape=(64, 64, 2))),
    ("tensor-shape", tensor("token_embd.weight", shape=(64, 301))),
    ("tensor-not-f32", tensor(NORM, type=1)),
    ("tensor-rank", tensor(Q, shape=(1, 1, 1, 1, 4096))),
    ("tensor-rank", tensor(Q, shape=())),
    ("tensor-type", tensor(Q, type=31, n_bytes=64)),
    ("tensor-type", tensor(Q, type=15, n_bytes=64)),
    ("tensor-block", tensor(Q, type=12, n_bytes=64)),
    ("tensor-block", tensor(Q, shape=(64, 0), n_bytes=64)),
    ("tensor-offset", tensor(Q, offset=0)),
    ("tensor-offset", tensor(Q, offset=2**63)),
    ("data-missing", tensor("blk.1.ffn_down.weight", shape=(2**63, 2**63), n_bytes=64)),
    ("bad-tensor-name", renamed(Q, "x" * 64)),
    ("bad-tensor-name", renamed(Q, "blk.0.attn_q\x1b[2J")),
    ("bad-key", pairs(clé=(U32, 1))),
    ("bad-key", lambda model: model.set("", U32, 1)),
    ("bad-key", lambda model: model.set("k" * 257, U32, 1)),
    ("bad-text", pairs(general__name=(STRING, "\udcff"))),
    ("bad-text", pairs(general__name=(STRING, "a\0b"))),
    ("value-type", lambda model: model.extra_pairs.append(("odd", Value(13, None)))),
    ("nested-array", lambda model: model.extra_pairs.append(("odd", Value(ARRAY, [], ARRAY)))),
    ("duplicate-key", again("general.architecture")),
    ("alignment", pairs(general__alignment=(U32, 0))),
    ("alignment", pairs(general__alignment=(U32, 16))),
    ("alignment", pairs(general__alignment=(U32, 48))),
    ("alignment", pairs(general__alignment=(U64, 32))),
    ("template-too-long", pairs(tokenizer__chat_template=(STRING, "x" * (1 << 20 | 1)))),
    ("too-many-keys", again(*(f"k{i}" for i in range(1024)))),
    ("too-many-tensors", lambda m: m.tensors.update({f"t{i}": Tensor((1,)) for i in range(16384)})),
    ("header-too-long", array("general.tags", ["x" * 1_000_000] * 34, STRING)),
]  # fmt: skip
OTHERS = [
    ("qwen2", "key-value", pairs(qwen2__attention__key_length=(U32, 32))),
    ("nemotron", "missing-key", without("nemotron.attention.layer_norm_epsilon")),
    ("nemotron", "key-value", pairs(nemotron__rope__dimension_count=(U32, 7))),
    ("nemotron", "key-value", pairs(nemotron__rope__dimension_count=(U32, 18))),
    ("nemotron", "missing-tensor", lambda model: model.tensors.pop("output.weight")),
    ("granite", "missing-key", without("granite.logit_scale")),
    ("granite", "key-value", pairs(granite__logit_scale=(F32, 0.0))),
    ("granite", "unknown-key", array("granite.deepstack_mapping", [0, 1], I32)),
    ("gemma2", "key-value", pairs(gemma2__attention__sliding_window=(U32, 0))),
    ("gemma2", "key-value", pairs(gemma2__attention__sliding_window_pattern=(U32, 1))),
    ("gemma2", "key-value", array("gemma2.attention.sliding_window_pattern", [False, False], BOOL)),
    ("gemma2", "key-value", array("gemma2.attention.sliding_window_pattern", [True], BOOL)),
    ("gemma2", "key-type", array("gemma2.attention.sliding_window_pattern", [1.0, 0.0], F32)),
    ("gemma2", "unexpected-tensor", added("output.weight", (64, 300))),
    ("phi3", "tensor-shape", tensor("blk.0.ffn_up.weight", shape=(64, 96))),
    ("olmo2", "tensor-shape", tensor("blk.0.attn_q_norm.weight", shape=(16,))),
    ("llama", "unexpected-tensor", added("rope_factors_long.weight", (8,))),
    ("mistral3", "tensor-shape", added("rope_freqs.weight", (16,))),
]  # fmt: skip
CASES = [("llama", code, change) for code, change in LLAMA] + OTHERS

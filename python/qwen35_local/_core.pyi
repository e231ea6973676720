"""The typed face of the C++ core. Tokens in, logits and tokens out; text never gets here.

Shapes: T tokens, V vocabulary rows of the model. All calls that compute release the GIL. Errors are those of
qwen35_local.errors.
"""

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Sequence as Seq
from os import PathLike
from typing import Literal, TypeAlias, TypedDict, final

import numpy as np
from numpy.typing import NDArray

from qwen35_local.models.kv import KvFormat

_MetadataValue: TypeAlias = bool | int | float | str | list[bool] | list[int] | list[float] | list[str]
_Logits: TypeAlias = Literal["none", "last", "all"]
_Inputs: TypeAlias = Iterable[tuple[int, InputRows]]
_InputRun: TypeAlias = tuple[int, int, int, tuple[int, int, int], bytes]

__version__: str

def isa() -> str:
    """Instruction set the CPU kernels use: the fastest of available_isas(), or as QWEN35_ISA asks."""

def available_isas() -> list[str]:
    """Every instruction set this machine can run, slowest first: "reference"; then "avx2", "avxvnni" and "avx512", or
    "neon" and "neon_i8mm"."""

def usable_threads() -> int:
    """How many threads this process may keep busy: the affinity mask and the control group's quota both count."""

def devices() -> dict[str, str | None]:
    """Every kind of device by name, the best first, and why its first device cannot be used here; None where it can."""

def count_devices(device: str) -> int:
    """How many devices of this kind there are, of use or not. A device is the name of its kind, or that and a number
    from 0: "cuda" is "cuda:0", the second card is "cuda:1"."""

def absence(device: str) -> str:
    """Why a device cannot be used, "" where it can. One that computes otherwise than the CPU (self_check) cannot."""

def kind_facts(device: str) -> list[tuple[str, str]]:
    """What a report says of a kind of device, in words: its driver, what its kernels are built for."""

def device_facts(device: str) -> list[tuple[str, str]]:
    """The same of one device: name, capability, memory. Nothing of one that is not there."""

def self_check(device: str) -> tuple[str, list[tuple[str, float, float, float, str, bool]]]:
    """Why a device is not used, "" where it is, and the small operations that were run on it and on the CPU, once. Of
    each: its name, the largest difference relative to the largest value of its row, the largest that is expected,
    seconds on the device, the device's error if it had one, and whether it passes."""

@final
class DeviceMemory:
    """Bytes; 0 for what the system does not tell."""

    @property
    def device(self) -> str:
        """Whose memory it is: what "auto" stands for here."""
    @property
    def free(self) -> int: ...
    @property
    def total(self) -> int: ...
    @property
    def cache(self) -> int:
        """The last one before this memory; that of the machine itself is not told here."""
    @property
    def is_host(self) -> bool:
        """Whether this program's own memory is part of it."""

@final
class Footprint:
    """What a described model takes of a device, here or not: arithmetic on its shapes. Nothing is allocated."""

    def __init__(
        self,
        shape: Mapping[str, object],
        weights: Iterable[tuple[str, int, int, int]],
        *,
        device: str = "auto",
        threads: int = 0,
    ) -> None:
        """`shape` under the names of Model.config; others are ignored. `weights` in the order of loading: type, rows,
        columns, and how many equal parts of the rows are packed apart (experts, and gate and up of each). `threads` of
        the host.

        Raises InputError for a shape that no model has or an unknown device, FormatError for a weight that cannot be
        packed, Unavailable for a device that this build does not have."""
    @property
    def device(self) -> str: ...
    @property
    def uses_host_memory(self) -> bool:
        """Whether the device computes in the memory that this program lives in."""
    @property
    def page_tokens(self) -> int:
        """Positions in a page of keys and values."""
    @property
    def pass_rows(self) -> tuple[int, int]:
        """How many tokens of a prompt share a pass: the most that are of use, and the fewest, where memory is short."""
    @property
    def weight_bytes(self) -> list[int]:
        """Of each weight, in the device's layout."""
    def parts(self, context_tokens: int, kv: str, *, rows: int, drafts: int = 0) -> dict[str, int]:
        """Bytes beside the weights, for one sequence that fills its context, `rows` tokens at a time. "kv": keys and
        values; "kv_token": of one more position; "draft_kv": those of the block that drafts, where `drafts` of a pass
        are taken; "state": the recurrent state; "snapshot": the most that one holds beside shared pages, and
        "snapshot_host": in the host's memory, where that is another; "activations" of a pass; "work": what operations
        keep, and "work_host" what lies in the host's memory on its way; "unused": the ends of allocated blocks;
        "program": what the device's driver takes on it. Raises InputError for a format that such heads cannot be kept
        in."""

def device_memory(device: str = "auto") -> DeviceMemory:
    """Raises InputError for an unknown device, Unavailable for one that is not here."""

@final
class MeasuredRate:
    """How much a device did, as it counted itself, in how many seconds: its fastest run."""

    @property
    def count(self) -> int: ...
    @property
    def seconds(self) -> float: ...
    @property
    def per_second(self) -> float: ...

def read_memory(n_bytes: int, *, device: str = "auto", threads: int = 0, repetitions: int = 5) -> MeasuredRate:
    """Bytes that the device reads from a buffer of n_bytes, or a little more, from end to end: the rate of its memory
    where the buffer is well above the last cache. `threads` of a device that is this machine's processors. Raises
    InputError, OutOfMemory, Unavailable."""

def multiply_int8(*, device: str = "auto", threads: int = 0, repetitions: int = 5) -> MeasuredRate:
    """8-bit multiplications and additions, counted apart, out of registers, with the instructions that the kernels
    use."""

@final
class GgufFile:
    """A GGUF, or all parts of a split one, of which the first is named: header, metadata and tensor directory, all
    bounds-checked and copied. Tensors are read when they are asked for, from the files as they were opened, whatever
    their paths have come to name since.

    A model of the family is shown as llama.cpp writes it, whoever wrote the file: other names, shapes and keys are
    translated, and what is no part of the language model is set aside.

    Raises FormatError, also when a file has been changed in place since it was opened; OSError."""

    def __init__(self, path: str | PathLike[str], *, header: bool = False) -> None:
        """With `header` the file may end behind its tensor directory, and nothing of the tensors is read; their offsets
        are 0."""
    @property
    def version(self) -> int: ...
    @property
    def paths(self) -> list[str]:
        """Of every part, the first one first."""
    @property
    def n_bytes(self) -> int:
        """Of all parts together."""
    @property
    def metadata(self) -> dict[str, _MetadataValue]: ...
    @property
    def tensors(self) -> list[TensorInfo]: ...
    @property
    def vision(self) -> list[TensorInfo]:
        """The image encoder that some writers put into the same file."""
    @property
    def broken_mtp(self) -> list[TensorInfo]:
        """A multi-token-prediction block that is not whole; `notices` says why."""
    @property
    def kind(self) -> str:
        """ "model" for one of the family; else "projector", "adapter", "importance matrix", "vocabulary", "draft" or
        "other"."""
    @property
    def refusal(self) -> str | None:
        """Why the file cannot be run and what to give instead, as far as its directory tells; None where it can."""
    @property
    def notices(self) -> list[str]:
        """What is odd about the file and lost by it, for people to read."""
    def tensor(self, name: str) -> NDArray[np.uint8]:
        """The encoded bytes of a tensor, read anew."""
    def read_into(self, name: str, begin: int, out: NDArray[np.uint8]) -> None:
        """Fills `out` with the tensor's encoded bytes from `begin` on. Raises InputError when there are fewer."""
    def decode(self, name: str) -> NDArray[np.float32]:
        """The tensor decoded to fp32, shape as numpy writes it (slowest dimension first)."""
    def fingerprint(self) -> bytes:
        """What tells this model from another: of every part the size, the time of its last change and the header, and
        how each tensor begins. Megabytes, to be digested."""

@final
class TensorInfo:
    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]:
        """Slowest dimension first, as numpy writes it: (rows, cols) of a matrix."""
    @property
    def n_bytes(self) -> int: ...
    @property
    def path(self) -> str:
        """The part that it lies in."""
    @property
    def offset(self) -> int:
        """From the start of that file."""

def block_types() -> dict[str, tuple[int, int]]:
    """Every tensor type that can be decoded: name to (values per block, bytes per block)."""

def decode(data: NDArray[np.uint8], dtype: str, n_values: int) -> NDArray[np.float32]:
    """Encoded blocks to fp32. Raises InputError when the size does not fit the type."""

def encode(
    values: NDArray[np.float32], dtype: str, *, importance: NDArray[np.float32] | None = None, threads: int = 0
) -> NDArray[np.uint8]:
    """fp32 [rows, cols] to encoded blocks [rows, row_bytes], in parallel. Types: F32, F16, BF16, Q8_0, Q4_0, Q4_1,
    Q5_0, Q5_1, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS. `importance` [cols] weighs squared errors per column."""

@final
class Factor:
    """The second moments of a matrix's inputs, damped and factored: what solve() needs, made once for every matrix with
    the same input. `h` [columns, columns] is the mean of x x^T over `tokens` rows x. `damping` is added to the diagonal
    as a part of its mean; None: 0.2 columns / tokens, from 0.01 to 0.3. Takes eight bytes an element of `h`,
    which is not kept.

    Raises InputError for a matrix that is not finite, not symmetric or not positive."""

    def __init__(
        self, h: NDArray[np.float32], tokens: float, *, damping: float | None = None, threads: int = 0
    ) -> None: ...
    @property
    def cols(self) -> int: ...
    @property
    def damping(self) -> float:
        """What was added, as a part of the mean diagonal: more than asked for where rounding hid the factor."""

def solve(
    values: NDArray[np.float32], dtype: str, factor: Factor, *, sweeps: int = 3, threads: int = 0
) -> NDArray[np.uint8]:
    """fp32 [rows, cols] to encoded blocks [rows, row_bytes] with the least tr(D H D^T), D what decoding is off by:
    error feedback, then `sweeps` of coordinate descent over scales and codes. A row has the same bytes whatever rows
    are given with it. Solves for Q3_K, Q4_0, Q4_1, Q4_K, Q5_K, Q6_K, IQ4_NL and IQ4_XS; encodes the other types of
    encode() with the diagonal of H as importance."""

def weighted_error(
    values: NDArray[np.float32], data: NDArray[np.uint8], dtype: str, h: NDArray[np.float32], *, threads: int = 0
) -> float:
    """tr(D H D^T) of fp32 [rows, cols] and their encoded blocks, for any symmetric `h` [cols, cols]."""

@final
class Calibration:
    """Layers [first, first + count) of a model on the CPU, texts through them, and second moments of what their
    matrices multiply. `header`: a GGUF of which the metadata and the list of tensors are read; `tensors` makes the
    encoded bytes of a tensor, by its name."""

    def __init__(
        self,
        header: str | PathLike[str] | GgufFile,
        *,
        tensors: Callable[[str], NDArray[np.uint8]],
        first: int,
        count: int,
        texts: int,
        length: int,
        diagonal: bool = False,
        threads: int = 0,
    ) -> None:
        """For at most `texts` texts of `length` tokens at a time. `diagonal`: of the moments, keep mean squares alone.
        Raises FormatError, InputError."""

    def run(self, tokens: NDArray[np.int32], x: NDArray[np.float32], *, into: int | None = None) -> None:
        """Runs texts [n, length] from their first token. `x` [n, length, D]: what comes into the first layer, replaced
        by what leaves the last; the model's first layer embeds the tokens and reads no x. `into`: 0 or 1, the part that
        moments are added to."""

    @property
    def inputs(self) -> list[tuple[tuple[str, ...], int, int]]:
        """Of each distinct input in part 0: the tensors that multiply it, columns, and experts that are kept apart."""

    def moments(self, name: str, *, part: int = 0, expert: int = 0) -> tuple[NDArray[np.float32], float]:
        """The mean of x x^T [cols, cols], or of x^2 [cols], of what came into a tensor, and over how many rows. Rows of
        an expert's down projection count by the square of the router's weight. Raises InputError."""

@final
class Model:
    """Weights on a device, immutable and shareable between sequences and threads; nothing of the file is used any more.

    Raises FormatError when the file is not a complete qwen35 / qwen35moe model, or is changed while it is read."""

    def __init__(
        self,
        file: str | PathLike[str] | GgufFile,
        *,
        device: str = "auto",
        threads: int = 0,
        context_tokens: int = 0,
        drafts: int = 0,
        draft_tokens: int = 32768,
        pass_rows: int | None = None,
        profile: bool = False,
        tensors: Callable[[str], NDArray[np.uint8]] | None = None,
    ) -> None:
        """An open file is loaded as it was opened. device: "auto" or one of devices(). threads 0: as many as this
        process may use. context_tokens beyond the model's own switches YaRN on. drafts: the most tokens of an append
        that a sequence may take back again, 0 to 16; its sequences and snapshots keep room for so many.
        draft_tokens: how many of the most frequent tokens the MTP block drafts from, a multiple of 32. pass_rows:
        tokens that share a pass unless a call asks for another number, 1 to 8192; None: the most that the device has
        use for. profile times every operation. With `tensors` the file is a GGUF that may end behind its tensor
        directory, and the bytes of a tensor are what `tensors(name)` gives, repeated until the tensor is full. Raises
        Unavailable for a device that is not here."""
    @property
    def metadata(self) -> dict[str, _MetadataValue]: ...
    @property
    def was_mapped(self) -> bool:
        """False when the system could not map the file into memory, and it was read instead."""
    @property
    def config(self) -> _ModelConfig: ...
    @property
    def device(self) -> str: ...
    @property
    def state_layout(self) -> int:
        """Version of what the bytes of pages and recurrent states mean on this device."""
    @property
    def threads(self) -> int: ...
    @property
    def n_vocab(self) -> int:
        """V: rows of the output matrix, padding included."""
    @property
    def n_tokens_used(self) -> int:
        """Ids below this exist in the tokenizer; rows from here on are padding and never sampled."""
    @property
    def context_tokens(self) -> int: ...
    @property
    def drafts(self) -> int: ...
    @property
    def pass_rows(self) -> int: ...
    @property
    def weight_bytes(self) -> int: ...
    @property
    def launches(self) -> int:
        """Kernels that the device has started one behind the other since it was opened; 0 where work is not cut so."""
    @property
    def work_bytes(self) -> int:
        """What the device's operations keep from call to call now."""
    @property
    def saved_page_bytes(self) -> int:
        """Of pages of keys and values that no sequence uses, only snapshots. On a device with memory of its own they
        lie in the host's, or go there with the next pass; 0 where all memory is the host's."""
    @property
    def weights(self) -> list[WeightInfo]:
        """Every tensor as the device holds it, in the order of loading."""
    def profile(self) -> dict[str, tuple[int, float]]:
        """Calls and seconds per operation since loading or reset_profile. Products with the output matrix are "head";
        "waiting" is time in which the calling thread waited for the others, which no other entry counts. Raises
        InputError for a model loaded without profile."""
    def reset_profile(self) -> None: ...
    def step(self, items: Iterable[StepItem], *, rows: int | None = None) -> list[StepResult]:
        """One pass of at most `rows` tokens, 1 to 8192; None: `pass_rows`. Items that fit whole go first, the shortest
        first, so that no long prompt holds up a token to decode; what is left goes to the others in their order. No bit
        of a result depends on that.

        What ends one item ends it alone and is its result's `error`. Raises InputError for `rows`, and an error of the
        device itself, after which the sequences that took part have to be restored or truncated to 0."""
    def draft(
        self,
        items: Iterable[
            tuple[Sequence, int, int]
            | tuple[Sequence, int, int, NDArray[np.uint32] | None]
            | tuple[Sequence, int, int, NDArray[np.uint32] | None, float]
        ],
    ) -> list[list[tuple[int, float]]]:
        """What the MTP block drafts for (sequence, token, most[, mask[, least]]): at most `most` tokens that may come
        behind `token`, which itself follows the sequence and is not read yet, each with the probability that the block
        gives it among the 64 likeliest. `mask` as in Sampler.set_mask, for the first draft. Drafts end before the
        product of their probabilities would be below `least`. Nothing that the sequences hold changes. Raises
        InputError without a block that drafts, for sequences without tokens, and for more than Model.drafts."""
    def forward(
        self,
        batch: Seq[
            tuple[Sequence, Seq[int] | NDArray[np.int32], _Logits]
            | tuple[Sequence, Seq[int] | NDArray[np.int32], _Logits, _Inputs]
            | tuple[Sequence, Seq[int] | NDArray[np.int32], _Logits, _Inputs, int]
        ],
        *,
        chunk_tokens: int | None = None,
    ) -> list[NDArray[np.float32]]:
        """Steps until each item's tokens are appended to its sequence; returns per item the logits [n, V] asked for: n
        is 0, 1 or the number of tokens. `inputs` and, behind them, `uncertain` as in Sequence.append.
        Raises InputError (nothing is changed), Cancelled (of any of them)."""

class _ModelConfig(TypedDict):
    """What the core read of the model's configuration, under the names of models.config.ModelConfig.

    `rope_factor`: by which YaRN stretches the positions, 1.0 for not at all. `context_tokens`: the model's own."""

    architecture: str
    name: str
    layers: int
    attention_layers: int
    delta_layers: int
    full_attention_interval: int
    mtp_layers: int
    hidden: int
    vocabulary: int
    heads: int
    kv_heads: int
    head_width: int
    delta_key_heads: int
    delta_value_heads: int
    delta_key_width: int
    delta_value_width: int
    conv_taps: int
    rope_width: int
    context_tokens: int
    feed_forward: int
    experts: int
    experts_per_token: int
    expert_feed_forward: int
    shared_expert_feed_forward: int
    embeddings_are_tied: bool
    rms_eps: float
    rope_theta: float
    rope_factor: float

@final
class WeightInfo:
    """A tensor packed for a device: rows of all experts together, bytes with padding."""

    @property
    def name(self) -> str: ...
    @property
    def rows(self) -> int: ...
    @property
    def cols(self) -> int: ...
    @property
    def n_bytes(self) -> int: ...

@final
class InputRows:
    """Rows [n, D] that are not tokens and enter a sequence in the place of embeddings: those of an image. A copy.

    `positions` [n, 3] (time, height, width) are counted from the one where text would have gone on, each part at least
    0 and below n; the text behind the rows goes on behind the largest. `digest`: 32 bytes that stand for everything
    rows and positions depend on. Rows are known by it: two blocks of one digest are taken for the same.

    Raises InputError for no rows, values that are not finite, positions or a digest that cannot be."""

    def __init__(self, rows: NDArray[np.float32], *, positions: NDArray[np.int32], digest: bytes) -> None: ...
    def __len__(self) -> int: ...
    @property
    def advance(self) -> int:
        """Positions from the first row to the text behind the rows."""
    @property
    def last(self) -> tuple[int, int, int]:
        """The position of the last row."""
    @property
    def digest(self) -> bytes: ...

@final
class Sequence:
    """One mutable timeline over a model: tokens, KV pages, recurrent state. Used by one thread at a time: a second one
    gets InputError, but for len() and cancel()."""

    def __init__(self, model: Model, *, context_tokens: int = 0, kv: KvFormat = "f16") -> None:
        """kv: how keys and values are kept. q8, q4 and k8v4 (keys in 8 bits, values in 4) keep the first page of 256
        tokens and the newest two in f16. Raises InputError for a context or head width that cannot be had."""
    def __len__(self) -> int: ...
    @property
    def tokens(self) -> NDArray[np.int32]: ...
    @property
    def inputs(self) -> list[_InputRun]:
        """Blocks of rows that are not tokens: index of the first row, how many there are in all, how many positions
        they take, the last row's, counted from the first, and the digest. The last one may not be there to its end."""
    @property
    def rope_delta(self) -> int:
        """Position less index of text that follows; 0 without blocks, never positive."""
    @property
    def committed(self) -> int:
        """How many of the tokens are certain; those behind them can be taken back."""
    @property
    def context_tokens(self) -> int: ...
    @property
    def pass_rows(self) -> int:
        """The model's."""
    @property
    def state_bytes(self) -> int: ...
    def append(
        self,
        tokens: Seq[int] | NDArray[np.int32],
        *,
        inputs: _Inputs = (),
        logits: _Logits = "last",
        uncertain: int = 0,
        chunk_tokens: int | None = None,
    ) -> NDArray[np.float32]:
        """Appends tokens; returns logits [n, V]. `inputs`: blocks in the place of tokens, in their order, and the index
        among these tokens where each begins; its ids stay what the tokens say. A block may end behind the tokens: the
        next call then goes on with it, at a negative index. The last `uncertain` tokens, at most Model.drafts, can be
        taken back by rewind() until the next append, which makes certain what it finds. Raises InputError (nothing is
        changed), Cancelled. A pass has at most `chunk_tokens` of them; None: the model's pass_rows."""
    def step(
        self,
        tokens: Seq[int] | NDArray[np.int32],
        *,
        inputs: _Inputs = (),
        logits: _Logits = "none",
        hidden: _Logits = "none",
        sampler: Sampler | None = None,
        logprobs: int | None = None,
        uncertain: int = 0,
        rows: int | None = None,
    ) -> StepResult:
        """`Model.step` of this sequence alone, whose error is raised."""
    def rewind(self, n: int) -> None:
        """Back to the first n tokens, committed <= n <= len(self), as if the others had never been appended: nothing is
        evaluated. Raises InputError for any other n."""
    def snapshot(self) -> Snapshot:
        """Pins the KV pages and copies the recurrent state; uncertain tokens stay uncertain in it."""
    def restore(self, snapshot: Snapshot) -> None:
        """Back to exactly what the snapshot saw, bit for bit, on whichever sequence. Raises InputError when it is of
        another model or kv format, or longer than this sequence's context."""
    def fork(self) -> Sequence: ...
    def truncate(self, n: int) -> int:
        """Back to the first n tokens, by rewind() where that reaches. Else KV is cut, recurrent state restored from the
        nearest snapshot this sequence took (kept while the Snapshot lives) or from the start, and the rest read again.
        Returns how many were read again. Raises InputError, with nothing changed, where rows that are not tokens would
        have to be read again: they are not kept."""
    def cancel(self) -> None:
        """Makes the append, forward or truncate in progress (or, if none is, nothing) raise Cancelled within one chunk,
        the last one included."""

@final
class StepItem:
    """What one sequence takes part in a step with: its next tokens, and what is wanted of them."""

    def __init__(
        self,
        sequence: Sequence,
        tokens: Seq[int] | NDArray[np.int32],
        *,
        inputs: _Inputs = (),
        logits: _Logits = "none",
        hidden: _Logits = "none",
        sampler: Sampler | None = None,
        logprobs: int | None = None,
        uncertain: int = 0,
    ) -> None:
        """inputs as in Sequence.append. logits, hidden: of which tokens the row of logits and the last hidden row
        (behind the final norm) are wanted. sampler: draws and accepts the token that follows the last certain one and,
        as long as the token drawn is the one that comes next in `tokens`, what follows that one: so uncertain tokens
        are verified. With logprobs of those drawn and of so many of the most likely ones. Raises InputError."""
    @property
    def sequence(self) -> Sequence: ...
    @property
    def tokens(self) -> NDArray[np.int32]: ...

@final
class StepResult:
    """What a step did for one item."""

    @property
    def evaluated(self) -> int:
        """How many of the item's tokens the sequence holds now; the rest is for a later step."""
    @property
    def is_finished(self) -> bool:
        """Whether that is all of them."""
    @property
    def sampled(self) -> list[Sampled]:
        """What the item's sampler drew, once it is finished: all but the last are the first of the uncertain tokens."""
    @property
    def logits(self) -> NDArray[np.float32]:
        """[n, V]: rows of the tokens evaluated in this step, as many as were wanted."""
    @property
    def hidden(self) -> NDArray[np.float32]:
        """[n, D], likewise."""
    @property
    def error(self) -> Exception | None:
        """What ended the item: InputError, OutOfMemory, or Cancelled after `Sequence.cancel()`."""

@final
class Page:
    """Keys and values of 256 positions in all attention layers, in the device's own layout."""

    @property
    def id(self) -> int:
        """The same for snapshots that share the page; never used twice in a process."""
    @property
    def n_bytes(self) -> int: ...
    def data(self) -> NDArray[np.uint8]:
        """A copy."""

@final
class Snapshot:
    @staticmethod
    def assemble(
        model: Model,
        *,
        kv: KvFormat,
        tokens: Seq[int] | NDArray[np.int32],
        inputs: Iterable[_InputRun] = (),
        pages: Seq[Page | NDArray[np.uint8]],
        state: NDArray[np.uint8],
        committed: int | None = None,
    ) -> Snapshot:
        """A snapshot from its parts, pages in the order of `pages`; committed None: all of its tokens. Raises
        InputError when a count or size is not that of such a snapshot; what the bytes mean is not checked: they must
        come from the same weights, rope and kv."""
    @property
    def kv(self) -> KvFormat: ...
    @property
    def pages(self) -> list[Page]:
        """Every page that it pins, by position; those of the block that drafts come last."""
    def state(self) -> NDArray[np.uint8]:
        """A copy of the recurrent state of the DeltaNet layers, and of the hidden rows that the block that drafts
        needs, where the model takes drafts."""
    def __len__(self) -> int:
        """Tokens in the sequence when it was taken."""
    @property
    def committed(self) -> int:
        """Sequence.committed when it was taken."""
    @property
    def n_bytes(self) -> int:
        """Bytes it holds apart from shared pages."""
    @property
    def tokens(self) -> NDArray[np.int32]: ...
    @property
    def inputs(self) -> list[_InputRun]:
        """As Sequence.inputs gave them."""
    @property
    def rope_delta(self) -> int: ...

@final
class Sampled:
    """A token that a sampler drew and accepted."""

    @property
    def token(self) -> int: ...
    @property
    def is_stop(self) -> bool:
        """Whether it is one of the sampler's stop_ids."""
    @property
    def logprob(self) -> float | None:
        """Natural logarithm of its probability before bias, penalties and cuts; None unless it was asked for."""
    @property
    def top_logprobs(self) -> list[tuple[int, float]]:
        """As Sampler.top_logprobs gives them, as many as were asked for."""

@final
class Sampler:
    """Logits to a token, and what that depends on beside them: the tokens so far, counted for the penalties, the random
    stream, and a grammar's mask. Order: bias, penalties, mask, top-k, top-p, min-p, temperature; temperature 0 takes
    the most likely token. Deterministic for a seed. Used by one thread at a time: a second one gets InputError."""

    def __init__(
        self,
        *,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        presence_penalty: float = 0.0,
        frequency_penalty: float = 0.0,
        penalty_last_n: int = -1,
        logit_bias: Mapping[int, float] | None = None,
        seed: int | None = None,
        n_tokens_used: int | None = None,
        stop_ids: Iterable[int] = (),
    ) -> None:
        """penalty_last_n: how many of the accepted tokens the penalties look at; -1: all of them. From n_tokens_used on
        ids are never drawn. stop_ids: what `Sampled.is_stop` tells. Raises InputError."""
    @property
    def seed(self) -> int: ...
    def __len__(self) -> int:
        """Tokens accepted."""
    def accept(self, tokens: int | Seq[int] | NDArray[np.int32]) -> None:
        """Counts tokens that come next, drawn or not. Raises InputError on what is no token id."""
    def rewind(self, n: int) -> None:
        """Back to where the n-th token had just been accepted, the random stream too; the mask stays. Raises InputError
        when fewer were accepted."""
    def clone(self) -> Sampler:
        """A sampler that goes on from here by itself."""
    def set_masks(self, rows: Iterable[NDArray[np.uint32] | None]) -> None:
        """As set_mask, the first for the next token that is drawn and accepted, and so on, the last for all behind
        it."""
    def set_mask(self, words: NDArray[np.uint32] | None) -> None:
        """From now on only tokens whose bit is set can be drawn: bit i % 32 of word i // 32, the layout of grammar
        libraries; tokens beyond the words cannot. None: every token. Raises InputError."""
    def sample(self, logits: NDArray[np.float32]) -> int:
        """Draws from logits [V]; accepts nothing. Raises InputError for NaN or +inf, and when nothing is left to
        choose."""
    def next(self, logits: NDArray[np.float32], *, logprobs: int | None = None) -> Sampled:
        """Draws from logits [V] and accepts; with the logprobs of that token and of so many of the most likely ones,
        unless `logprobs` is None."""
    def top_logprobs(self, logits: NDArray[np.float32], n: int) -> list[tuple[int, float]]:
        """The n most likely tokens with natural-log probabilities of the unmodified distribution over the tokens that
        exist; none of probability 0."""

"""A model as a program uses it: text and conversations in, replies out."""

import os
import reprlib
import weakref
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from operator import index
from pathlib import Path
from types import TracebackType
from typing import Any, Self, get_args

from qwen35_local.api.opening import KEYWORDS, Opening, Wish, local_path
from qwen35_local.api.reply import Reply
from qwen35_local.api.stream import Stream
from qwen35_local.chat.messages import Message, read_messages
from qwen35_local.chat.presets import MAX_TOKENS, Sampling
from qwen35_local.chat.tools import read_tools
from qwen35_local.chat.wishes import ChoiceMode, OutputFormat, ToolChoice
from qwen35_local.engine.engine import Engine
from qwen35_local.engine.job import Job
from qwen35_local.engine.reply import Completion, Event, Request
from qwen35_local.errors import InputError
from qwen35_local.models.drafts import Drafts
from qwen35_local.models.kv import KvChoice, KvFormat

_CLOSED = "the model is closed; load it again with Model.from_file"


class Model:
    """A loaded model.

    Every method may be called from any thread. As many replies as it was loaded for (`parallel`) are written side by
    side, others wait in the order in which they were asked for, and none changes another's answer.

    What was read is kept: a prompt that begins like an earlier one is read from where they part (`Usage`), and that
    never changes an answer.

    As a context manager it is closed at the end, which frees its memory."""

    def __init__(self, engine: Engine, path: Path, notices: Iterable[str] = ()) -> None:
        """For `from_file`, which makes models."""
        self._loaded: Engine | None = engine
        self._streams: weakref.WeakSet[Stream] = weakref.WeakSet()
        self.path = path
        """The GGUF it was loaded from."""
        self.notices = tuple(notices)
        """What is odd about the file, and what was chosen because of it: sentences for a person to read."""

    @classmethod
    def from_file(
        cls,
        path_or_name: str | os.PathLike[str] | None = None,
        *,
        device: str = "auto",
        context_tokens: int = 0,
        kv: KvChoice = "auto",
        threads: int = 0,
        memory_bytes: int | None = None,
        cache_bytes: int | None = None,
        parallel: int = 1,
        draft: Drafts = "auto",
    ) -> Self:
        """Loads a model. Nothing is printed, asked or downloaded.

        `path_or_name`: a GGUF, a folder, or a name as the command line takes it ("9b", "OWNER/NAME:Q4_K_M"), of what is
        on this disk; None is the small demonstration model that comes with the package. A checkpoint is converted to 4
        bits first, once. `device`: "auto" (the best that is here), "cpu", "cuda" ("cuda:1": the second card)
        or "metal". `context_tokens` 0: the model's own, or as much of it as fits into memory; beyond its own YaRN
        stretches the positions. `kv`: how keys and values are kept, "f16", "q8", "k8v4" or "q4"; "auto" is the widest
        that fits. `threads` 0: as many as this process may use. `memory_bytes` stands in for the memory that is free,
        `cache_bytes` for what is spent on points to go back to (None: as planned). `parallel`: how many replies, 1 to
        256, are written side by side; memory is planned for all of them. `draft`: how many tokens are guessed for each
        pass to verify, "auto" (as many as pay), "off", or a number up to 8: it changes how fast a reply comes, and no
        token.

        Raises InputError (no such model, it does not fit, an option that cannot be), FormatError (the file is broken or
        no model of the family), Unavailable (no such device here), OutOfMemory, OSError."""
        notices: list[str] = []
        name = None if path_or_name is None else os.fspath(path_or_name)
        wish = Wish(
            device=device,
            context_tokens=context_tokens,
            threads=threads,
            kv=kv,
            memory_bytes=memory_bytes,
            cache_bytes=cache_bytes,
            parallel=parallel,
            draft=draft,
        )
        path = local_path(name, notices.append)
        return cls(Opening(wish, KEYWORDS, notices.append).engine(path), path, notices)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends every reply in progress, as `Stream.close` does, and frees the model. Later calls raise InputError."""
        engine, self._loaded = self._loaded, None
        for stream in list(self._streams):
            stream.close()
        if engine is not None:
            engine.close()

    def __repr__(self) -> str:
        return f"<Model {self._loaded.name}: {self._loaded.summary}>" if self._loaded else "<Model: closed>"

    @property
    def _engine(self) -> Engine:
        if self._loaded is None:
            raise InputError(_CLOSED)
        return self._loaded

    @property
    def name(self) -> str:
        """As the file calls it."""
        return self._engine.name

    @property
    def device(self) -> str:
        """What it runs on, as in "cpu-avx2"."""
        return self._engine.model.device

    @property
    def context_tokens(self) -> int:
        """The most tokens that a prompt and its reply may have together."""
        return self._engine.context_tokens

    @property
    def kv(self) -> KvFormat:
        """How keys and values are kept."""
        return self._engine.kv

    @property
    def metadata(self) -> dict[str, Any]:
        """The GGUF's key-value pairs, a copy."""
        return self._engine.model.metadata

    def preset(self, *, thinking: bool | None = None) -> Sampling:
        """The sampling settings that the model card advises, with or without thinking (None: as the model does by
        default). What `sampling=None` means; `dataclasses.replace` changes some of it."""
        engine = self._engine
        return engine.preset(thinking=engine.thinks_by_default if thinking is None else thinking)

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        """Ids [n] of a text. With `special`, spellings of special tokens as in "<|im_end|>" become those tokens, which
        is not for text that others wrote. Raises InputError on lone surrogates."""
        return self._engine.tokenizer.encode_turns([(), [(text, special)]])[1]

    def detokenize(self, tokens: Sequence[int], *, special: bool = False) -> str:
        """The text of ids. Without `special`, control tokens as "<|im_end|>" leave no text. Bytes that are not UTF-8
        become U+FFFD. Raises InputError on an id that is none."""
        return self._engine.tokenizer.decode(list(tokens), keep_control=special)

    def generate(
        self,
        prompt: str | Sequence[int],
        *,
        sampling: Sampling | None = None,
        seed: int | None = None,
        max_tokens: int | None = None,
        stop: str | Sequence[str] = (),
        logprobs: int | None = None,
        n: int = 1,
        output_format: OutputFormat | Mapping[str, Any] | None = None,
    ) -> Reply:
        """What follows a prompt. As `stream`, whose errors it raises, and whole."""
        stream = self.stream(
            prompt,
            sampling=sampling,
            seed=seed,
            max_tokens=max_tokens,
            stop=stop,
            logprobs=logprobs,
            n=n,
            output_format=output_format,
        )
        with stream:
            return stream.result()

    def stream(
        self,
        prompt: str | Sequence[int],
        *,
        sampling: Sampling | None = None,
        seed: int | None = None,
        max_tokens: int | None = None,
        stop: str | Sequence[str] = (),
        logprobs: int | None = None,
        n: int = 1,
        output_format: OutputFormat | Mapping[str, Any] | None = None,
    ) -> Stream:
        """What follows a prompt, as it is written: plain text, in which tags and calls are only text.

        `prompt`: text, or ids [n], as `tokenize` gives them. A chat template is not applied; `chat` does that. The rest
        is as in `chat_stream`; `sampling` None is the preset without thinking."""
        tokens = self._prompt(prompt)
        completion = Completion(
            tokens,
            self._sampling(sampling, seed, thinking=False),
            max_tokens=_limit(max_tokens),
            stop=_strings(stop),
            logprobs=logprobs,
            n=n,
            output_format=_format(output_format),
        )
        self._engine.forms.of(completion)
        return self._stream(lambda engine, job: engine.complete(completion, job=job), n)

    def chat(
        self,
        messages: str | Iterable[Message | Mapping[str, Any]],
        *,
        tools: Iterable[Mapping[str, Any]] = (),
        tool_choice: ToolChoice | ChoiceMode = "auto",
        output_format: OutputFormat | Mapping[str, Any] | None = None,
        thinking: bool | None = None,
        thinking_tokens: int | None = None,
        keep_thinking: bool | None = None,
        sampling: Sampling | None = None,
        seed: int | None = None,
        max_tokens: int | None = None,
        stop: str | Sequence[str] = (),
        logprobs: int | None = None,
        n: int = 1,
        breaks_loops: bool = True,
    ) -> Reply:
        """The model's next message. As `chat_stream`, whose errors it raises, and whole."""
        stream = self.chat_stream(
            messages,
            tools=tools,
            tool_choice=tool_choice,
            output_format=output_format,
            thinking=thinking,
            thinking_tokens=thinking_tokens,
            keep_thinking=keep_thinking,
            sampling=sampling,
            seed=seed,
            max_tokens=max_tokens,
            stop=stop,
            logprobs=logprobs,
            n=n,
            breaks_loops=breaks_loops,
        )
        with stream:
            return stream.result()

    def chat_stream(
        self,
        messages: str | Iterable[Message | Mapping[str, Any]],
        *,
        tools: Iterable[Mapping[str, Any]] = (),
        tool_choice: ToolChoice | ChoiceMode = "auto",
        output_format: OutputFormat | Mapping[str, Any] | None = None,
        thinking: bool | None = None,
        thinking_tokens: int | None = None,
        keep_thinking: bool | None = None,
        sampling: Sampling | None = None,
        seed: int | None = None,
        max_tokens: int | None = None,
        stop: str | Sequence[str] = (),
        logprobs: int | None = None,
        n: int = 1,
        breaks_loops: bool = True,
    ) -> Stream:
        """The model's next message, as it is written.

        `messages`: the conversation, oldest first: `Message` objects or dictionaries in OpenAI's form; a string is one
        message of the user. `tools`: what the model may call, in the form of OpenAI, Anthropic or MCP;
        `tool_choice`: "auto", "none" or "required", or a `ToolChoice` of some of them. `output_format`: what the answer
        has to be, a JSON schema as a dictionary or an `OutputFormat`. `thinking` and `keep_thinking` (of finished
        turns): None is as the model does by default. After `thinking_tokens` the thinking is brought to an end, and the
        answer follows. `breaks_loops`: so it is when it repeats itself without end, and
        an answer that does stops. `sampling` None: what the model card advises (`preset`); `seed`: the same seed gives
        the same reply. `max_tokens`: the longest reply, thinking included; None is 32,768. `stop`: the answer ends
        before the first of these strings. `logprobs`: None for none, else of every token and of so many of the most
        likely ones in its place. `n`: how many replies, up to 128, are written side by side to the prompt, which is
        read once; reply i is the one that `seed` + i gives alone. The conversation goes on at once from the first;
        another is read again as far as it goes.

        Raises InputError when an argument is not what is expected; the stream does when the conversation does not fit
        the context."""
        said = [Message("user", messages)] if isinstance(messages, str) else read_messages(messages)
        if not said:
            raise InputError("messages: expected at least one message, got none.")
        engine = self._engine
        thinks = engine.thinks_by_default if thinking is None else thinking
        request = Request(
            said,
            self._sampling(sampling, seed, thinking=thinks),
            tools=read_tools(tools),
            tool_choice=_choice(tool_choice),
            output_format=_format(output_format),
            thinking=thinking,
            thinking_tokens=thinking_tokens,
            keep_thinking=keep_thinking,
            max_tokens=_limit(max_tokens),
            stop=_strings(stop),
            logprobs=logprobs,
            n=n,
            breaks_loops=breaks_loops,
        )
        engine.forms.of(request)
        return self._stream(lambda engine, job: engine.reply(request, job=job), n)

    def _stream(self, begin: Callable[[Engine, Job], Generator[Event, None, None]], n: int) -> Stream:
        this = weakref.ref(self)

        def start(job: Job) -> Generator[Event, None, None]:
            model = this()
            if model is None:
                raise InputError(_CLOSED)
            return begin(model._engine, job)

        stream = Stream(start, n)
        self._streams.add(stream)
        return stream

    def _prompt(self, prompt: str | Sequence[int]) -> list[int]:
        tokenizer = self._engine.tokenizer
        if isinstance(prompt, str):
            return tokenizer.encode_prompt([(prompt, False)])
        try:
            tokens = [index(token) for token in prompt]
        except TypeError:
            raise InputError(f"prompt: expected a text or token ids, got {reprlib.repr(prompt)}.") from None
        wrong = next((token for token in tokens if not 0 <= token < tokenizer.n_used), None)
        if wrong is not None:
            raise InputError(f"prompt: {wrong} is no token id; expected 0 to {tokenizer.n_used - 1}.")
        return tokens

    def _sampling(self, sampling: Sampling | None, seed: int | None, *, thinking: bool) -> Sampling:
        chosen = self._engine.preset(thinking=thinking) if sampling is None else sampling
        if not isinstance(chosen, Sampling):
            raise InputError(f"sampling: expected a Sampling, got {reprlib.repr(chosen)}.")
        return chosen if seed is None else replace(chosen, seed=seed)


def _format(wanted: OutputFormat | Mapping[str, Any] | None) -> OutputFormat | None:
    if isinstance(wanted, Mapping):
        return OutputFormat.of_schema(wanted)
    if wanted is not None and not isinstance(wanted, OutputFormat):
        raise InputError(f"output_format: expected a JSON schema or an OutputFormat, got {reprlib.repr(wanted)}.")
    return wanted


def _choice(wanted: ToolChoice | ChoiceMode) -> ToolChoice:
    if isinstance(wanted, ToolChoice):
        return wanted
    if wanted not in get_args(ChoiceMode):
        raise InputError(
            f"tool_choice: expected {', '.join(get_args(ChoiceMode))} or a ToolChoice, got {reprlib.repr(wanted)}."
        )
    return ToolChoice(wanted)


def _limit(max_tokens: int | None) -> int:
    if max_tokens is None:
        return 0
    if not MAX_TOKENS.fits(max_tokens) or not max_tokens:
        raise InputError(f"max_tokens: expected a whole number from 1 to 2147483647, got {reprlib.repr(max_tokens)}.")
    return max_tokens


def _strings(stop: str | Sequence[str]) -> Sequence[str]:
    return (stop,) if isinstance(stop, str) else stop

// The core's one way to fail: an exception whose message says what was given, what was expected and what to do.
// The bindings translate each class to its Python twin; nothing in the core prints or exits.
#pragma once

#include <stdexcept>
#include <string>

namespace qwen35 {

struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A file is not what it claims to be: truncated, out of bounds, wrong type, missing or unexpected tensor.
struct FormatError : Error {
  using Error::Error;
};

// The caller asked for something that cannot be: a token id out of range, a context that is full.
struct InputError : Error {
  using Error::Error;
};

// A device failed: what it reported, and what it was asked for.
struct DeviceError : Error {
  using Error::Error;
};

// A device or the host has no memory left for what was asked; nothing of it was taken.
struct OutOfMemory : Error {
  using Error::Error;
};

// A device or an instruction set that this build or this machine does not have.
struct Unavailable : Error {
  using Error::Error;
};

// A forward pass stopped because another thread asked; the sequence stands at its last finished chunk.
struct Cancelled : Error {
  using Error::Error;
};

}  // namespace qwen35

// Conversions of rows that are not tokens.
#pragma once

#include <span>
#include <vector>

#include "bindings/bindings.h"
#include "sequence/content.h"

namespace qwen35 {

// Pairs (first row, InputRows).
std::vector<InputRows> to_inputs(const pybind11::iterable& inputs);

// Tuples (first row, rows, positions they take, digest). Throws InputError for what cannot be one.
std::vector<InputRun> to_runs(const pybind11::iterable& runs);
pybind11::list from_runs(std::span<const InputRun> runs);

void bind_input_rows(pybind11::module_& module);

}  // namespace qwen35

// Steps as Python asks for them.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>
#include <optional>
#include <string>

#include "bindings/sampler.h"
#include "model/model.h"
#include "sequence/sequence.h"

namespace qwen35 {

void bind_step(pybind11::module_& module);  // StepItem, StepResult

// Between passes, and between the tensors of a load, signals get their turn.
void check_signals();

// None: the model's pass_rows.
using RowCount = std::optional<pybind11::int_>;

pybind11::list step_items(Model& model, const pybind11::iterable& items, const RowCount& rows);
pybind11::object step_alone(std::shared_ptr<Sequence> sequence, const pybind11::object& tokens,
                            const pybind11::iterable& inputs, const std::string& logits, const std::string& hidden,
                            std::shared_ptr<SharedSampler> sampler, const std::optional<pybind11::int_>& logprobs,
                            const pybind11::int_& uncertain, const RowCount& rows);
// Of tuples (sequence, token, most) or (sequence, token, most, mask).
pybind11::list draft_items(Model& model, const pybind11::iterable& items);
pybind11::list forward_batch(Model& model, const pybind11::iterable& batch, const RowCount& chunk_tokens);
pybind11::object append(std::shared_ptr<Sequence> sequence, const pybind11::object& tokens,
                        const pybind11::iterable& inputs, const std::string& logits, const pybind11::int_& uncertain,
                        const RowCount& chunk_tokens);

}  // namespace qwen35

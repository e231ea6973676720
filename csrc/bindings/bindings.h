// The parts of the Python bindings, and the conversions they share. Bindings convert arguments and release the GIL;
// they hold no logic. python/qwen35_local/_core.pyi is the contract.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "backend/backend.h"

namespace qwen35 {

void bind_devices(pybind11::module_& module);
void bind_calibration(pybind11::module_& module);
void bind_model(pybind11::module_& module);  // Model, Sequence, Snapshot
void bind_sampler(pybind11::module_& module);
void bind_quantise(pybind11::module_& module);  // Factor, solve, weighted_error

// A Model of the file on a device of the caller's.
pybind11::object load_on(std::unique_ptr<Backend> backend, const pybind11::object& file);

// Integers of any kind; throws InputError for one that is no token id, TypeError for what is no integer.
std::vector<Token> to_tokens(const pybind11::handle& tokens);
pybind11::array_t<Token> to_array(std::span<const Token> tokens);

// Throws InputError below `least` or beyond 63 bits; a negative number that is allowed means "all".
std::size_t to_count(const char* name, const pybind11::int_& value, long long least);

// "f32", "f16", "q8", "q4", "k8v4". Throws InputError for another name.
KvFormat to_kv_format(const std::string& name);
const char* kv_name(KvFormat format) noexcept;

// 0 to 1024; 0 means as many as this process may use.
unsigned to_threads(const pybind11::int_& value);

}  // namespace qwen35

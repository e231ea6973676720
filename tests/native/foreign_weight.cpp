// A weight of another device is an error, in every operation that takes one.
#include <cstdio>
#include <functional>
#include <vector>

#include "base/error.h"
#include "devices/cpu/cpu_backend.h"
#include "twins.h"

namespace qwen35::twins {
namespace {

class ForeignWeight final : public Weight {
 public:
  std::size_t rows() const noexcept override { return 32; }
  std::size_t cols() const noexcept override { return 32; }
  std::size_t bytes() const noexcept override { return 0; }
  const char* layout() const noexcept override { return "blocks of another device"; }
};

bool is_refused(const char* name, const std::function<void()>& operation) {
  try {
    operation();
  } catch (const InputError&) {
    return true;
  }
  std::printf("%s: took a weight of another device\n", name);
  return false;
}

}  // namespace

bool foreign_weights_are_refused() {
  cpu::CpuBackend cpu(cpu::Isa::kReference, 1);
  const auto memory = cpu.allocate(2 * 32 * sizeof(float));
  const Tensor x{memory->data().as<float>(), 1, 32, 32}, out{x.data + 32, 1, 32, 32};
  const ForeignWeight foreign;
  const bool matmul = is_refused("matmul", [&] { cpu.matmul(x, {{out, &foreign}}); });
  const bool matmul_add = is_refused("matmul_add", [&] { cpu.matmul_add(out, x, foreign); });
  const bool swiglu = is_refused("swiglu", [&] { cpu.swiglu(out, x, foreign, foreign); });
  const ExpertWeights experts{&foreign, &foreign, &foreign, 1, std::nullopt};
  const Routes routes{{}, {}, 1};
  const bool gather = is_refused("moe_gather", [&] { cpu.moe_gather({out, {}}, x, experts, routes); });
  const bool combine = is_refused("moe_combine", [&] { cpu.moe_combine(out, {x, {}}, experts, routes); });
  return matmul && matmul_add && swiglu && gather && combine;
}

}  // namespace qwen35::twins

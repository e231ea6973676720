// Every kernel of every instruction set this machine runs against its scalar twin, bit by bit, without Python: for
// machines that are emulated. Arguments name the instruction sets that must be among them.
#include <algorithm>
#include <cstdio>
#include <string_view>

#include "twins.h"

int main(int count, char** arguments) {
  using namespace qwen35;
  const auto isas = cpu::available_isas();
  for (int i = 1; i < count; ++i) {
    const auto is_named = [&](cpu::Isa isa) { return std::string_view(arguments[i]) == cpu::isa_name(isa); };
    if (std::none_of(isas.begin(), isas.end(), is_named)) {
      std::printf("%s: not available on this machine\n", arguments[i]);
      return 1;
    }
  }
  bool is_same = twins::workers_share() && twins::foreign_weights_are_refused() && twins::passes_allocate_nothing();
  for (const cpu::Isa isa : isas.subspan(1)) {
    twins::Comparison comparison(isa);
    twins::compare_matmul(comparison);
    twins::compare_rows(comparison);
    if (comparison.is_same()) std::printf("%s: %zu results, same bits\n", cpu::isa_name(isa), comparison.compared());
    is_same = is_same && comparison.is_same();
  }
  return is_same ? 0 : 1;
}

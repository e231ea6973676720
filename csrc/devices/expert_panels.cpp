#include "devices/expert_panels.h"

#include <string>

#include "base/error.h"
#include "base/round_up.h"

namespace qwen35 {

std::size_t expert_part_panels(const char* operation, const PanelledWeight& w, std::size_t experts, std::size_t parts,
                               std::size_t part_rows) {
  // Packed by expert and part, or by expert alone when a part fills its panels.
  const bool fills = part_rows % w.panel_rows == 0;
  const bool by_part = w.groups == experts * parts && w.group_rows == part_rows;
  const bool by_expert = w.groups == experts && w.group_rows == parts * part_rows && fills;
  const bool flat = w.groups == 1 && w.rows == experts * parts * part_rows && fills;
  if (by_part || by_expert || flat) return ceil_div(part_rows, w.panel_rows);
  throw InputError(std::string(operation) + ": a weight of " + std::to_string(w.rows) + " rows in " +
                   std::to_string(w.groups) + " groups does not hold " + std::to_string(experts) + " experts of " +
                   std::to_string(parts) + " x " + std::to_string(part_rows) +
                   " rows. Pack it with one group per expert and part");
}

}  // namespace qwen35

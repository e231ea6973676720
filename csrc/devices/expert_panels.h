// How the matrices of experts lie in one weight that is packed in panels.
#pragma once

#include <cstddef>

namespace qwen35 {

struct PanelledWeight {
  std::size_t rows;
  std::size_t groups;      // that were packed apart
  std::size_t group_rows;  // of one
  std::size_t panel_rows;
};

// Panels of one of the `parts` matrices of `part_rows` rows that each expert has in `w`: part p of expert e begins at
// panel (e parts + p) times as many. Throws InputError where a part's panels are not its own.
std::size_t expert_part_panels(const char* operation, const PanelledWeight& w, std::size_t experts, std::size_t parts,
                               std::size_t part_rows);

}  // namespace qwen35

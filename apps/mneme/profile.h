// What the commands under `mneme profile` share.
#pragma once

#include "apps/mneme/command.h"

namespace mneme::app {

void add_profile_hylra(CLI::App& profiles, Action& action);
void add_profile_alisa(CLI::App& profiles, Action& action);

}  // namespace mneme::app

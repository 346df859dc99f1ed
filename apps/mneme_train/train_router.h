// mneme train router: see train_router.cc.
#pragma once

#include "apps/mneme/command.h"

namespace mneme::app {

void add_train_router(CLI::App& app, Action& action);

}  // namespace mneme::app

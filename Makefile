# make run    builds and starts everything with a demo; prints the address to open
# make test   builds and runs all tests; starts its own servers
# make test-unit   runs the tests that need no server, in seconds after the build
# make test-browser   runs the page and the client library in Chromium and Node, on networks that fail
# make soak   breaks everything again and again for some minutes; ROUNDS=n for longer
# make figures   measures memory, ages, recovery and restarts with release builds, and prints them
# make bench   runs the load scenarios (about seven minutes) and prints figures, floor and goals
# make bench-million   a million watchers on this machine: 12 GB of memory and about four minutes
# make fuzz   feeds noise to the parsers of what strangers send; SECONDS_EACH=n a target (default 600)
# make sanitize   runs the tests with the address sanitizer, then with the thread sanitizer
# make deb   builds the Debian package in .build/deb
# make lint   format and warnings as errors
# make stop   ends a run; make clean also removes what was built and the demo's data

.PHONY: help run test test-unit test-browser soak figures bench bench-million fuzz sanitize deb lint format stop clean setup setup-tests
.DEFAULT_GOAL := help

help:
	@sed -n 's/^# //p' Makefile

setup:
	@config/dev/setup.sh

setup-tests:
	@config/dev/setup.sh tests

run:
	@config/dev/run.sh

test-unit: setup
	GAVELCAST_STRICT=1 swift build --build-tests
	GAVELCAST_STRICT=1 swift test --skip-build --skip EndToEndTests

test: setup-tests
	GAVELCAST_STRICT=1 swift build --build-tests
	GAVELCAST_STRICT=1 swift test --skip-build

test-browser: setup-tests
	GAVELCAST_STRICT=1 swift build --product gavelcast-gateway
	GAVELCAST_STRICT=1 swift build --product gavelcast-bidapi
	cd Tests/BrowserTests && /usr/bin/python3 run.py

# About 50 s a round.
ROUNDS ?= 20
soak: setup
	GAVELCAST_STRICT=1 swift build --build-tests
	GAVELCAST_STRICT=1 GAVELCAST_SOAK_ROUNDS=$(ROUNDS) swift test --skip-build --filter 'UpheavalTests/mixed|EndToEndTests/Model|EndToEndTests/BidUpheaval|EndToEndTests/FailoverMix'

figures: setup
	swift build -c release --product gavelcast-gateway
	swift build -c release --product gavelcast-bidapi
	GAVELCAST_STRICT=1 swift build --build-tests
	GAVELCAST_FIGURES=1 GAVELCAST_PROGRAMS=$(CURDIR)/.build/release GAVELCAST_STRICT=1 swift test --skip-build --filter 'FigureTests|Attacks|ProxyTests/restarts'

bench:
	@config/dev/bench.sh

bench-million:
	@config/dev/bench.sh million

fuzz: setup
	@config/dev/fuzz.sh

sanitize: setup-tests
	@config/dev/sanitize.sh

deb:
	@config/dev/setup.sh deb
	@config/dev/deb.sh

lint: setup
	swift format lint --strict --recursive Sources Tests loadtest fuzz Package.swift
	GAVELCAST_STRICT=1 swift build --build-tests

format:
	swift format --in-place --recursive Sources Tests loadtest fuzz Package.swift

stop:
	@config/dev/stop.sh

clean:
	@config/dev/clean.sh

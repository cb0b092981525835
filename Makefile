# Everything is set up by the targets themselves, in this folder, without root.
# Needed: Python 3.11 or later with venv, and make. `make help` lists the targets.
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
PIP := $(BIN)/pip install --disable-pip-version-check --progress-bar on -q --require-hashes
LOCAL := --no-index --no-deps --no-build-isolation
MODULES := streaming/node_modules
SCRIPTS := $(MODULES)/.stamp
LOCALES := base/i18n/locales
LOCK := $(BIN)/uv pip compile -q --universal --generate-hashes --no-annotate --no-header --no-emit-index-url --no-emit-find-links
export PORT ?= 8080
export DATA ?= demo-data
# else each of hundreds of processes compiles all of Kuager
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup tools wheel demo test test-fast fuzz fuzz-rtsp check check-style check-types check-walls check-scripts check-docs lock attack attack-silent reload-table fault-table crash-table identity-walk chaos nodes-dead nodes-database nodes-cut nodes-kills nodes-rolling nodes-viewers nodes-country bucket-away alerts disk-table bench-record bench-sound density both-sources foreign-table loss-table neighbours bench-pictures bench-site bench-http bench-copy player-table native bench-upload bench-upload-memory bench-catalogue bench-fsck bench-player soak states walk postgres-away bench-time time-table screenshot rooms code-table messages clean
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(VENV)/.stamp ## what Kuager needs: environment, locked dependencies

# what tests and `make check` need besides
tools: setup $(VENV)/.tools $(SCRIPTS)

$(VENV)/.stamp: deploy/requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or later is needed, and $(PYTHON) is not: apt-get install python3, or make PYTHON=python3.12 ..."; exit 2; }
	@echo "Python environment in $(VENV) (about a minute the first time) ..."
	@test -x $(PY) || $(PYTHON) -m venv $(VENV) || { \
	  echo "The venv module is missing: apt-get install python3-venv"; rm -rf $(VENV); exit 2; }
	@$(PIP) -r deploy/requirements.txt
	@$(BIN)/pip install --disable-pip-version-check -q $(LOCAL) -e .
	@touch $@

$(VENV)/.tools: deploy/requirements-dev.txt $(VENV)/.stamp
	@echo "Tools for tests (about a minute the first time) ..."
	@$(PIP) -r deploy/requirements-dev.txt
	@touch $@

# .venv/bin/node is the machine's, or that of a wheel
$(SCRIPTS): streaming/package-lock.json $(VENV)/.tools
	@echo "JavaScript tools ..."
	@deploy/fetch-pages.sh
	@touch $@

wheel: setup ## dist/kuager-….whl, and dist/constraints.txt with the locked versions
	@$(BIN)/pip wheel --disable-pip-version-check -q $(LOCAL) -w dist .
	@sed -n 's/ \\$$//; /^[a-z]/p' deploy/requirements.txt > dist/constraints.txt

demo: setup ## six simulated cameras, recorded and live on http://127.0.0.1:8080/ (PORT, DATA)
	@exec $(PY) -m kuager demo

test: tools ## all tests (ARGS: more arguments for pytest)
	@$(PY) -m pytest -q -n 5 $(ARGS)

test-fast: tools ## tests without browser, cameras and waiting
	@$(PY) -m pytest -q -n 6 -m "not slow" $(ARGS)

fuzz: tools ## property tests with examples that nobody tried yet (ROUNDS=10)
	@for round in $$(seq $(or $(ROUNDS),10)); do \
	  $(PY) -m pytest -q -n 4 -m hypothesis --hypothesis-profile=fuzz || exit 1; done

fuzz-rtsp: tools ## a million sessions with cameras that send mutated answers and packets (COUNT, FIRST)
	@$(PY) -m tests.support.fuzz_rtsp --count $(or $(COUNT),1000000) --first $(or $(FIRST),0)

check: check-style check-types check-walls check-scripts check-docs ## style, types, walls between the packages, scripts of pages, docs

check-style: tools
	@$(BIN)/ruff check . && $(BIN)/ruff format --check -q . && echo "ruff: ok"

check-types: tools
	@$(BIN)/mypy

check-walls: tools
	@$(BIN)/lint-imports

check-scripts: tools
	@$(BIN)/node $(MODULES)/eslint/bin/eslint.js -c streaming/eslint.config.mjs streaming/static tests/streaming
	@$(BIN)/node $(MODULES)/typescript/bin/tsc -p streaming && echo "tsc: ok"
	@$(BIN)/node --test --test-reporter=dot tests/streaming/*.test.mjs

check-docs: tools
	@$(PY) -m pytest -q tests/test_docs.py tests/test_house.py tests/test_deploy_files.py

bench-time: tools ## 30 minutes at +200 ppm: drift of placed against burned-in time (MINUTES, SOURCE=native)
	@$(PY) -m benchmarks.bench_time --minutes $(or $(MINUTES),30) --source $(or $(SOURCE),ffmpeg)

time-table: tools ## the table of docs/time.md (SOURCE=native; 13 minutes)
	@$(PY) -m benchmarks.bench_time --table --source $(or $(SOURCE),ffmpeg)

fault-table: tools ## what operators see of each fault of a camera: the table of docs/operations.md (SOURCE=native)
	@$(PY) -m tests.support.camera_faults $(or $(SOURCE),ffmpeg)

crash-table: tools ## crashes at every step of the commit order: the table of docs/crashes.md
	@$(PY) -m benchmarks.crash_table 2>/dev/null | grep "^|"

identity-walk: tools ## two recorders, uploaders and fsck, in any order (WALKS=300)
	@$(PY) -m tests.support.identity_walk $(or $(WALKS),300)

chaos: tools ## kill -9 at random, with a bucket that fails at random (ROUNDS=200)
	@$(PY) -m benchmarks.chaos --rounds $(or $(ROUNDS),200)

alerts: tools ## ten faults under a live Prometheus: when each alert fires and clears (15 minutes; needs Prometheus; FIRST=1)
	@$(PY) -m benchmarks.alert_table $(FIRST)

disk-table: tools ## what operators see of each fault of the spool's disk: a table of docs/operations.md
	@unshare -Urm $(PY) -m tests.support.disk_faults

nodes-dead: tools ## of 3 machines with 60 cameras one dies and comes back (CAMERAS; about 8 minutes)
	@$(PY) -m benchmarks.nodes_table dead --cameras $(or $(CAMERAS),60)

nodes-database: tools ## PostgreSQL away for 5 minutes, then failed over to a standby (SECONDS, CAMERAS)
	@$(PY) -m benchmarks.nodes_table database --seconds $(or $(SECONDS),300) --cameras $(or $(CAMERAS),60)

nodes-cut: tools ## one machine cut off from PostgreSQL alone (SECONDS=60, CAMERAS)
	@$(PY) -m benchmarks.nodes_table cut --seconds $(or $(SECONDS),60) --cameras $(or $(CAMERAS),60)

nodes-kills: tools ## random kills of processes, machines, PostgreSQL, S3 and nginx (ROUNDS=50, CAMERAS; about 40 minutes)
	@$(PY) -m benchmarks.nodes_table kills --rounds $(or $(ROUNDS),50) --cameras $(or $(CAMERAS),30)

nodes-rolling: tools ## each of 3 machines stopped and started (CAMERAS; about 8 minutes)
	@$(PY) -m benchmarks.nodes_table rolling --cameras $(or $(CAMERAS),60)

nodes-viewers: tools ## viewers of 20 cameras through one worker of nginx (SECONDS; needs nginx and wrk)
	@$(PY) -m benchmarks.nodes_viewers --seconds $(or $(SECONDS),60)

nodes-country: tools ## 80 nodes and 40,000 cameras in PostgreSQL, without video
	@$(PY) -m benchmarks.nodes_country

bucket-away: tools ## the bucket away for 20 minutes, then slow, with 12 cameras recorded (MINUTES)
	@$(PY) -m benchmarks.chaos --rounds 0 --rate 0 --away $(or $(MINUTES),20)

bench-record: tools ## what recording costs by both sources, against raw TCP, plain ffmpeg and MediaMTX (CAMERAS="50 200", SECONDS, MEDIAMTX=binary)
	@$(PY) -m benchmarks.bench_record --cameras $(or $(CAMERAS),50) --seconds $(or $(SECONDS),600)

bench-sound: tools ## what AAC and G.711 add to the cost of a camera that is read natively (CAMERAS, SECONDS)
	@$(PY) -m benchmarks.bench_record --sound --cameras $(or $(CAMERAS),20) --seconds $(or $(SECONDS),60)

density: tools ## so many cameras on this machine: is any segment late or lost, what do they take? (CAMERAS, MINUTES, DISK=folder)
	@$(PY) -m benchmarks.density --cameras $(or $(CAMERAS),400) --minutes $(or $(MINUTES),30) $(if $(DISK),--data $(DISK))

both-sources: tools ## the same cameras natively and through ffmpeg: frames, moments, sound (MINUTES)
	@$(PY) -m benchmarks.both_sources --minutes $(or $(MINUTES),60)

foreign-table: tools ## what both sources make of GStreamer's cameras, and of MediaMTX (MEDIAMTX=binary)
	@$(PY) -m tests.support.foreign_cameras

loss-table: tools ## packets lost, late and doubled over UDP: are the marked segments those that were hit? (SECONDS)
	@$(PY) -m benchmarks.loss_table --seconds $(or $(SECONDS),120)

neighbours: tools ## what cameras that flood, hang and lie cost the others (CAMERAS, SECONDS of each part)
	@$(PY) -m benchmarks.neighbours --cameras $(or $(CAMERAS),199) --seconds $(or $(SECONDS),120)

bench-pictures: tools ## 30 cameras: CPU of their pictures against that of recording them
	@$(PY) -m benchmarks.bench_pictures

attack: tools ## what a viewer gets while somebody attacks the public pages, then by all attacks at once for a minute (SECONDS for each, ONLY="one of them")
	@$(PY) -m benchmarks.attack --seconds $(or $(SECONDS),10) $(if $(ONLY),"$(ONLY)")

attack-silent: tools ## the same of silent connections, 1,100 and 20,000, slow readers and slow bodies (SECONDS for each)
	@$(PY) -m benchmarks.attack --silent --seconds $(or $(SECONDS),10)

reload-table: tools ## files broken in 13 ways and reloaded while 60 cameras are recorded, then 5 cameras changed (CAMERAS, CHANGED)
	@$(PY) -m benchmarks.reload_table --cameras $(or $(CAMERAS),60) --changed $(or $(CHANGED),5)

bench-site: tools ## 10,000 stations and 40,000 cameras: how fast pages, search and API answer
	@$(PY) -m benchmarks.bench_site

bench-http: tools ## live playlists and segments a second of one core, against nginx and bare aiohttp (SECONDS for each; needs wrk)
	@$(PY) -m benchmarks.bench_http --seconds $(or $(SECONDS),10)

bench-catalogue: tools ## the catalogue with an election day in it: about 20 minutes and 25 GB (ROWS, DIR)
	@$(PY) -m benchmarks.bench_catalogue --rows $(or $(ROWS),38000000) $(if $(DIR),--data $(DIR))
	@$(PY) -m benchmarks.bench_catalogue --rows 1000000 --sqlite

bench-fsck: tools ## kuager fsck on an archive of 100,000 recordings
	@$(PY) -m benchmarks.bench_fsck

postgres-away: tools ## PostgreSQL killed for 5 minutes, then its disk full for 5 (MINUTES)
	@$(PY) -m tests.e2e.test_postgres_faults $(or $(MINUTES),5)

bench-copy: tools ## an hour as a copy, from directory and bucket, against ffmpeg's concat (12 GB of disk)
	@$(PY) -m benchmarks.bench_copy

player-table: tools ## what players make of a copy: a table of docs/copies.md (needs the players)
	@$(PY) -m benchmarks.player_table --write

native: tools ## what WebKitGTK makes of the station's page without Media Source Extensions: a table of docs/site.md
	@$(PY) -m benchmarks.webkit_table 2>/dev/null | grep "^|"

bench-upload: tools ## throughput and CPU of taking recordings to a bucket, against rclone and aws
	@$(PY) -m benchmarks.bench_upload

bench-upload-memory: tools ## memory of the uploader with cameras of 20 Mbit/s and two archives
	@$(PY) -m benchmarks.bench_upload_memory

walk: tools ## the demo used at three widths, by keyboard, without JavaScript (SHOTS=folder)
	@$(PY) -m benchmarks.walk $(if $(SHOTS),--shots $(SHOTS))

bench-player: tools ## what a viewer gets: first picture, delay of live, angles in step (SECONDS, LOADS)
	@$(PY) -m benchmarks.bench_player --seconds $(or $(SECONDS),300) --loads $(or $(LOADS),30) 2>&1 | grep -v '^20'

soak: tools ## 500 moments, live loads and jumps in 6 tabs, half of them at 400 kbit/s, on a busy machine: does anything freeze? (MOMENTS, TABS)
	@$(PY) -m benchmarks.soak --moments $(or $(MOMENTS),500) --tabs $(or $(TABS),6) 2>&1 | grep -v '^20'

states: tools ## pictures of the pages in each of their states, at four widths, in both themes and three languages (SHOTS=folder)
	@$(PY) -m benchmarks.states $(or $(SHOTS),states) 2>&1 | grep -v '^20'

screenshot: tools ## make docs/screenshot.png from a running demo (needs Chromium)
	@$(PY) -m benchmarks.screenshot

rooms: tools ## bring the picture of rooms in docs/architecture.md up to date
	@$(PY) -m tests.support.architecture

code-table: tools ## lines, long functions, Any, sleeps in tests: of the code as it is, or of REVISIONS
	@$(PY) -m benchmarks.code_table $(REVISIONS)

messages: tools ## bring base/i18n/locales/*.po up to date with the sentences in code and templates
	@$(BIN)/pybabel -q extract -F $(LOCALES)/babel.cfg --no-location --sort-output --omit-header --width 100 \
	  --ignore-dirs "node_modules static" -o $(LOCALES)/messages.pot base copies streaming
	@for lang in kk ru; do $(BIN)/pybabel -q update -i $(LOCALES)/messages.pot -l $$lang \
	  -o $(LOCALES)/$$lang.po -N --ignore-obsolete --omit-header --width 100 || exit 1; done
	@rm $(LOCALES)/messages.pot

lock: tools ## write the lock files anew
	@$(LOCK) pyproject.toml --all-extras --group build -o deploy/requirements.txt
	@$(LOCK) pyproject.toml --all-extras --group build --group dev -c deploy/requirements.txt -o deploy/requirements-dev.txt
	@$(LOCK) --group pages -o deploy/requirements-pages.txt
	@cd streaming && npm install --package-lock-only --no-audit --no-fund

clean: ## remove what the targets made, not the demo's data
	rm -rf $(VENV) $(MODULES) .mypy_cache .ruff_cache .pytest_cache .hypothesis

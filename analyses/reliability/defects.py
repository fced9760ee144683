"""The list of defects that sabotage.py plants: one wrong line each, and the tests that ought to find it."""

# ruff: noqa: E501 - tables are read along their rows

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Defect:
    """One wrong line."""

    what: str
    """In words."""
    file: str
    """Where, below probekit/."""
    right: str
    """What stands there, once."""
    wrong: str
    """What is put there."""
    tests: str
    """Files and -k expression of the tests that ought to find it."""


ANALYSIS, STORAGE, FAULTS = "tests/analysis", "tests/storage", "tests/faults"
DISK, CORRUPT = f"{STORAGE}/test_checkpoint.py", f"{FAULTS}/test_corruption.py -k 'not every'"
SESSION, MUSEUM = f"{ANALYSIS}/test_runner.py", f"{FAULTS}/test_museum.py"
GOLDEN, STORE = "tests/golden", f"{STORAGE}/test_store.py"
DEFECTS = (
    Defect("a written file is not flushed", "storage/store.py", "            disk.sync(descriptor)\n", "", DISK),
    Defect("the folder of a new name is not flushed", "storage/store.py", "        disk.replace(temporary, path)\n        disk.sync_folder(path.parent)\n", "        disk.replace(temporary, path)\n", DISK),
    Defect("a folder is emptied under its own name", "storage/store.py", "    disk.replace(path, doomed)\n    disk.sync_folder(path.parent)\n    _empty(doomed)", "    _empty(path)", DISK),
    Defect("the digest of a file is not compared", "storage/store.py", "        digest.check(data, Path(path))", "        pass", CORRUPT),
    Defect("only the length is compared, not the bytes", "storage/digest.py", "            if found != wanted:", "            if False:", f"{FAULTS}/test_corruption.py -k 'placed or no_number'"),
    Defect("the last line of a record is not compared", "storage/store.py", "    if len(body) == len(data) or blake2b(body) != seal:", "    if False:", CORRUPT),
    Defect("a part counts without its sidecar", "storage/shards.py", 'return self._path(part, "json").exists()', 'return self._path(part, "safetensors").exists()', CORRUPT),
    Defect("a stage is taken whatever it was computed from", "storage/shards.py", '        if self.inputs and record.get("inputs") != self.inputs:\n            raise _stale(path)\n        Digest.from_dict', "        Digest.from_dict", f"{FAULTS}/test_corruption.py -k 'open_stage'"),
    Defect("links are followed", "storage/store.py", "        if Path(path).is_symlink():", "        if False:", CORRUPT),
    Defect("a resumed pass begins with the first token again", "storage/checkpoint.py", "                sums[name].restore(below(name, arrays))\n        return n_tokens", "                sums[name].restore(below(name, arrays))\n        return 0", SESSION),
    Defect("the kept sums are not restored", "storage/checkpoint.py", "                sums[name].restore(below(name, arrays))", "                pass", SESSION),
    Defect("the concept sums are not kept", "probes/moments.py", '        for name in ("gram", "total", "sums", "n_tokens", "n_segment"):', '        for name in ("gram", "total", "n_tokens", "n_segment"):', DISK),
    Defect("the exact hits are not kept", "evidence/contrast.py", '        return {"sums": self._sums, "hits": self._hits, **kept}', '        return {"sums": self._sums, **kept}', DISK),
    Defect("twins do not depend on the seed", "analysis/sites.py", "            rng = np.random.default_rng([design.settings.seed, self.layer, 1])", "            rng = np.random.default_rng([0, self.layer, 1])", DISK),
    Defect("the halves do not depend on the seed", "analysis/design.py", "splitmix64(np.array([seed], np.uint64))", "splitmix64(np.array([0], np.uint64))", DISK),
    Defect("the readouts are judged on the half they were fitted on", "analysis/design.py", '        return {"fit": in_fit_doc, "confirm": ~in_fit_doc}', '        return {"fit": in_fit_doc, "confirm": in_fit_doc}', f"{ANALYSIS}/test_api.py -k 'TestRunDirectory or arrays_give'"),
    Defect("the lock locks nothing", "storage/lock.py", "            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)", "            pass", SESSION),
    Defect("LOCK stays behind", "storage/lock.py", "            store.disk.unlink(path)", "            pass", SESSION),
    Defect("free space is never asked for", "storage/store.py", "    if free < wanted:", "    if False:", SESSION),
    Defect("parts of other versions are mixed", "analysis/runner.py", '        manifest.require_same_environment(folder, environment)', "        pass", SESSION),
    Defect("Ctrl-C does not say how to go on", "analysis/runner.py", '            stop.add_note(f"{folder} keeps', '            str(f"{folder} keeps', SESSION),
    Defect("bad input leaves its directory", "analysis/runner.py", '        if state == "new":\n            manifest.empty(folder)\n        raise', "        raise", SESSION),
    Defect("--force replaces before the input was looked at", "analysis/runner.py", "            analysis_inputs = job.prepare(report)\n", "            manifest.empty(folder)\n            analysis_inputs = job.prepare(report)\n", SESSION),
    Defect("debris is not swept", "storage/store.py", "        elif debris.exists() or debris.is_symlink():\n            disk.unlink(debris)", "        elif debris.exists() or debris.is_symlink():\n            pass", STORE),
    Defect("a short write is taken for a whole one", "storage/store.py", "        view = view[n_written:]", "        view = view[len(view) :]", STORE),
    Defect("a newer format is read all the same", "storage/store.py", "    if written > version:", "    if False:", GOLDEN),
    Defect("names in files lead anywhere", "storage/manifest.py", "    if not _SAFE_NAME.fullmatch(name):", "    if False:", MUSEUM),
    Defect("a record may say more than a call", "cli/resuming.py", "    if unknown or not isinstance", "    if not isinstance", MUSEUM),
    Defect("text of a corpus becomes markup", "report/environment.py", "        autoescape=True,", "        autoescape=False,", f"{FAULTS}/test_bad_input.py"),
    Defect("NaN in activations goes through", "analysis/array_inputs.py", "    require_finite(tensor, name)\n", "", f"{ANALYSIS}/test_api.py -k non_finite"),
    Defect("documents may fall", "analysis/array_inputs.py", "(np.diff(document.astype(np.int64)) < 0).any()", "(np.diff(document.astype(np.int64)) < -(10**9)).any()", f"{ANALYSIS}/test_api.py -k do_not_fit"),
    Defect("pair indices off by one", "probes/pairs.py", "np.triu_indices(n_concepts, k=1)", "np.triu_indices(n_concepts, k=0)", "tests/probes/test_pairs.py"),
    Defect("counts in float32", "probes/pairs.py", "    n_tokens = np.zeros((n_pairs, 4), np.int64)", "    n_tokens = np.zeros((n_pairs, 4), np.float32)", "tests/meta tests/probes/test_pairs.py"),
    Defect("κ with a wrong sign", "probes/pairs.py", "SIGNS = np.array([1.0, -1.0, -1.0, 1.0])", "SIGNS = np.array([1.0, -1.0, 1.0, -1.0])", "tests/probes/test_refit.py"),
    Defect("p-values of b / B", "evidence/nulls.py", "    p = (reached + 1) / (len(null) + 1)", "    p = reached / len(null)", "tests/evidence/test_nulls.py"),
    Defect("the exact test on 58 documents", "evidence/contrast.py", "MIN_DOCS_EXACT = 59", "MIN_DOCS_EXACT = 58", "tests/evidence/test_contrast.py"),
    Defect("finds predict their neighbours", "evidence/mixed.py", "            calm = np.where(kept, values, fit.prediction)", "            calm = values", "tests/evidence/test_mixed.py"),
    Defect("twins without signs", "model/sign_products.py", "        flipped = rotated[:, self.order] * self.first", "        flipped = rotated[:, self.order]", "tests/model/test_sign_products.py"),
    Defect("quadrants weigh as they come", "probes/refit.py", "        self._weight = (0.25 / np.maximum(sample.n_sampled, 1)).astype(np.float32)", "        self._weight = np.full(sample.n_sampled.shape, 1 / max(1, len(sample.token)), np.float32)", "tests/probes/test_refit.py"),
    Defect("parts come as their folder lists them", "storage/shards.py", "        return sorted(int(match.group(1)) for match in found if match)", "        return [int(match.group(1)) for match in found if match]", f"{FAULTS}/test_grid.py -k listed"),
    Defect("what a pass left is computed again", "storage/checkpoint.py", "        return self._outputs.get(layer) if self._outputs is not None and self._outputs.has(layer) else None", "        return None", f"{ANALYSIS}/test_resume_is_cheap.py"),
    Defect("a file of settings nested too deep is taken for a defect", "analysis/settings.py", "    except (ValueError, RecursionError) as error:", "    except tomllib.TOMLDecodeError as error:", f"{FAULTS}/test_fuzz.py -k Found"),
    Defect("a sidecar need not say what it describes", "storage/shards.py", '        Digest.from_dict(record.get("file"), path)\n', "", f"{FAULTS}/test_fuzz.py -k Found"),
    Defect("a foreign error keeps its name", "errors.py", "            mapped = _misuse(entry, args, options, error) or as_ours(error)", "            mapped = error", "tests/test_errors.py"),
    Defect("a model that differs is read past its bridge", "model/plain.py", "            if not error <= FAR * torch", "            if not error <= 1e9 * torch", "tests/model/test_plain.py"),
    Defect("an argument of the wrong type is called a defect", "errors.py", "        if name in hints and not _fits(value, hints[name]):", "        if False:", "tests/meta/test_wrong_types.py"),
    Defect("a lack of memory is content that cannot be told", "fingerprint.py", "        if lacks_memory(error):", "        if False:", "tests/test_fingerprint.py"),
    # arrays, foreign input, shell
    Defect("arrays need not belong together", "analysis/array_inputs.py", "        return replace(given, error=prove_arrays(mlp, given.inputs, given.neurons))", "        return given", f"{ANALYSIS}/test_array_inputs.py -k 'BelongTogether'"),
    Defect("a mismatch of arrays is called a bias", "model/proof.py", "        return error <= min(FITTED, self._found / 5)", "        return True", "tests/model/test_proof.py -k 'Slips or nobody'"),
    Defect("of all tokens only the mean error is looked at", "model/proof.py", "    bad = rows[error.of_token > TOKEN_TOLERANCE]", "    bad = rows[:0]", "tests/model/test_proof.py -k 'another_text or middle'"),
    Defect("the names of a data frame's columns are dropped", "analysis/array_inputs.py", 'getattr(labels, "columns", [f"c{i}" for i in range(n_concepts)])', '[f"c{i}" for i in range(n_concepts)]', f"{ANALYSIS}/test_array_inputs.py -k Foreign"),
    Defect("a wide probe does not take out what it has chosen", "probes/select.py", "        rest -= (axis @ target) * shared\n", "", "tests/probes/test_estimator.py -k MoreFeatures"),
    Defect("a text is asked of the hub as a name", "text/corpus.py", "    if not _HUB_NAME.fullmatch(word):", "    if False:", "tests/test_arguments.py -k Corpus"),
    Defect("a stopped command ends as a finished one", "cli/__init__.py", "        code = 128 + came[0] if came else stopped.code", "        code = 0", "tests/test_cli_stop.py -k InThisProcess"),
    Defect("which signal came is forgotten where compiled code raises its own", "cli/stop.py", "        came.append(signum)\n", "", "tests/test_cli_stop.py -k compiled"),
    Defect("brackets in a message are markup", "cli/terminal.py", "print(Text.assemble((lead, style), text))", "print(lead + text)", "tests/test_cli_words.py -k stands"),
)  # fmt: skip

SAELENS, ARCHIVE = (
    "tests/model/dictionaries/test_saelens.py",
    "tests/model/dictionaries/test_torch_archive.py",
)
DICTIONARIES = (
    Defect("decoder norms of a top-k dictionary are not read", "model/dictionaries/saelens.py", "    return w_dec.norm(dim=1) if rescaled else None", "    return None", f"{SAELENS} -k rescaled"),
    Defect("an unknown field of a dictionary is passed over", "model/dictionaries/fields.py", "        if unknown:\n            raise InputError(\n                f\"{source}: field", "        if False:\n            raise InputError(\n                f\"{source}: field", f"{SAELENS} -k refused_by_name"),
    Defect("a dictionary of the centred model reads the raw one", "model/dictionaries/processing.py", "        return inputs - inputs.mean(dim=1, keepdim=True) if self.centred else inputs", "        return inputs", "tests/model/dictionaries/test_processing.py"),
    Defect("an archive may name any class", "model/dictionaries/torch_archive.py", "        if argument not in _KNOWN:", "        if False:", f"{ARCHIVE} -k hostile"),
    Defect("latents trained again have the same fingerprint", "model/dictionaries/encoder.py", "                    digest.update(array.data)\n", "", f"{SAELENS} -k fingerprint"),
)  # fmt: skip
DEFECTS += DICTIONARIES
# a run that is not the run asked for
IDENTITY = f"{ANALYSIS}/test_run_fingerprint.py"
DEFECTS += (
    Defect("a file is told by its name and size", "storage/contents.py", "                digest = of_file(path, told) if held is None else held", "                digest = str(stamp.size)", f"{IDENTITY} -k 'middle'"),
    Defect("only the first leaf of a file is digested", "fingerprint.py", "    starts = range(0, n_bytes, LEAF)", "    starts = range(0, min(n_bytes, 1), LEAF)", "tests/test_fingerprint.py"),
    Defect("a large file is remembered by what can be put back", "storage/contents.py", "held.st_mtime_ns, held.st_ctime_ns)", "held.st_mtime_ns, 0)", f"{IDENTITY} -k Remembered"),
    Defect("concepts are told by their names", "text/concepts/blocks.py", "        return of_value(self)\n", "        return of_value(self.columns)\n", f"{IDENTITY} -k 'masks or mask'"),
    Defect("a function is told by its name", "text/concepts/blocks.py", "self.tokens, *map(of_array, self.found)])", "self.tokens])", f"{IDENTITY} -k function"),
    Defect("buffers are no part of a model", "model/state.py", "    held |= dict(model.named_buffers(remove_duplicate=False))\n", "", f"{IDENTITY} -k in_place"),
    Defect("a tokenizer is no part of a call", "analysis/api.py", "tokenizer=of_given(model, tokenizer),", "tokenizer=None,", f"{IDENTITY} -k tokenizer"),
    Defect("hooks are let through", "model/user_hooks.py", "    if found:\n", "    if False:\n", f"{IDENTITY} -k Hooks"),
    Defect("a file that changes during the run is not noticed", "analysis/runner.py", "        job.contents.require_unchanged(in_memory=job.engine == \"local\")", "        pass", f"{IDENTITY} -k written_to"),
    Defect("the caller keeps the threads of the run", "analysis/threads.py", "        torch.set_num_threads(here)", "        pass", f"{ANALYSIS}/test_threads.py -k 'comes_back or worker'"),
    Defect("two spikes become one", "analysis/settings.py", "    if twice:\n", "    if False:\n", f"{IDENTITY} -k spikes"),
)  # fmt: skip

# reading a model: what is analysed is the model in the file
CHECKPOINT, GGUF = "tests/model/test_checkpoint.py", "tests/model/test_gguf.py"
DEFECTS += (
    Defect("tensors that are left over are let through", "model/checkpoint.py", "    if left:\n        raise ModelError(\n            f\"{folder}: the files hold", "    if False:\n        raise ModelError(\n            f\"{folder}: the files hold", f"{CHECKPOINT} -k MoreThan"),
    Defect("the caller's own model is bridged", "model/hooked_model.py", "        sharing_copy(given, name), name, UNPACK", "        given, name, UNPACK", "tests/model/test_untouched.py -k 'loading_touches'"),
    Defect("a RoPE scaling of a GGUF file is lost", "model/gguf_config.py", '    elif kind == "linear" and factor != 1:', '    elif kind == "linear" and factor > 1e9:', f"{GGUF} -k leaves_out"),
    Defect("a key of a GGUF file that nobody used is let through", "model/gguf_config.py", "        if left:\n            told", "        if False:\n            told", f"{GGUF} -k refused_by_name"),
    Defect("a bridge that is not the model is let through", "model/plain.py", "        if not error <= FAR * eps", "        if not error <= 1e9 * eps", "tests/model/test_untouched.py -k TheBridge"),
)  # fmt: skip

# Text that is not the text.
TEXT = "tests/text/test_uncounted.py"
DEFECTS += (
    Defect("special tokens inside a document are counted", "text/tokens.py", "    return counted & ~np.isin(ids, special) if special else counted", "    return counted", TEXT),
    Defect("the first positions are counted", "text/tokens.py", "(np.arange(ids.shape[-1]) >= first_pos + skip_first)", "(np.arange(ids.shape[-1]) >= first_pos)", TEXT),
    Defect("labels are numbered by what is read, not by what is counted", "text/concepts/concepts.py", "            where = [place[found[counted[found]]] for found in where]", "            where = [found[counted[found]] for found in where]", TEXT),
    Defect("a document that begins with the start mark gets two", "text/tokens.py", "            head = [] if bos_id is None or ids[:1] == [bos_id] else [bos_id]", "            head = [] if bos_id is None else [bos_id]", TEXT),
    Defect("the first row alone tells the column of text", "text/table_source.py", '        if number >= ROWS_SEEN and ("text" not in names or row.get("text") is not None):', "        if True:", "tests/text/test_readers.py -k TestColumn"),
    Defect("JSON lines are running text", "text/readers.py", 'JSON_LINES = frozenset({".jsonl", ".ndjson", ".jsonlines"})', 'JSON_LINES = frozenset({".jsonl"})', "tests/text/test_readers.py -k by_any_name"),
    Defect("any tokenizer's text may be cut between words", "text/encoding.py", "        if len(text) <= size or not self.cuts_between_words:", "        if len(text) <= size:", "tests/text/test_encoding.py -k 'whole_text or needs'"),
)  # fmt: skip

"""Times single steps of vLLM's CPU build: its scheduler decides, what its executor does is timed, which prepares the
batch, runs the model and draws tokens. tools/bench_peer runs it with the Python of vLLM's virtual environment and asks
it, line by line, what `mea bench engine --paced` is asked:

    PYTHON vllm_steps.py DIR MAX_CONTEXT MAX_BATCH CACHED_TOKENS ROUND_SECONDS

A line "BATCH CONTEXT TOKENS" is answered by {"seconds": S}, by {"skipped": WHY} or by {"error": TEXT}, its last word.
TOKENS of 1 are a decode step of BATCH sequences, more are a chunk of one prompt behind cached tokens. Cached tokens
are blocks that the prefix cache was told to hold: nothing computed them, since what they hold does not change the time.
Each sequence has blocks of its own. Decode begins at the next multiple of a block, and one token further each step.
"""

import json
import os
import random
import sys
import time

WARM_UP_STEPS = 3  # as engine/bench/rounds.cc
MOST_STEPS = 200
BLOCK = 128  # tokens; vLLM's own choice on the CPU


class Skipped(Exception):
    pass


class Engine:
    def __init__(self, directory, max_context, max_batch, cached_tokens):
        from vllm import SamplingParams
        from vllm.engine.arg_utils import EngineArgs
        from vllm.v1.engine import EngineCoreRequest
        from vllm.v1.engine.core import EngineCore
        from vllm.v1.executor.abstract import Executor

        self.new_request, self.new_sampling = EngineCoreRequest, SamplingParams
        self.max_context = max_context
        config = EngineArgs(
            model=directory,
            dtype="bfloat16",
            max_model_len=max_context,
            max_num_seqs=max_batch,
            max_num_batched_tokens=max(512, max_batch),
            block_size=BLOCK,
            enable_prefix_caching=True,
            skip_tokenizer_init=True,
            distributed_executor_backend="uni",
            kv_cache_memory_bytes=cached_tokens * bytes_per_token(directory),
        ).create_engine_config()
        self.core = EngineCore(config, Executor.get_class(config), log_stats=False)
        self.vocabulary = config.model_config.get_vocab_size()
        self.requests = 0
        # Pages that nobody wrote are all the same one, and would be read from the processor's caches.
        for cache in self.core.model_executor.driver_worker.worker.model_runner.kv_caches:
            cache.normal_()

    def request(self, prompt, max_tokens):
        self.requests += 1
        request = self.new_request(
            request_id=str(self.requests),
            prompt_token_ids=prompt,
            mm_features=None,
            sampling_params=self.new_sampling(temperature=0, max_tokens=max_tokens, ignore_eos=True),
            pooling_params=None,
            arrival_time=time.time(),
            lora_request=None,
            cache_salt=None,
            data_parallel_rank=None,
        )
        return self.core.preprocess_add_request(request)[0]

    def add(self, depth, tokens, max_tokens):
        """A request of `tokens` behind `depth` cached ones, all its own."""
        prompt = [random.randrange(self.vocabulary) for _ in range(depth + tokens)]
        if depth > 0:
            cached = self.request(prompt[:depth], 1)
            manager = self.core.scheduler.kv_cache_manager
            if manager.allocate_slots(cached, depth) is None:
                raise Skipped(f"no room for {depth} cached tokens")
            manager.free(cached)  # the prefix cache keeps the blocks
        request = self.request(prompt, max_tokens)
        self.core.add_request(request)
        return request.request_id

    def step(self, rows):
        """Seconds of a step that must have so many rows."""
        scheduler, executor = self.core.scheduler, self.core.model_executor
        plan = scheduler.schedule()
        if plan.total_num_scheduled_tokens != rows:
            raise RuntimeError(f"vLLM planned {plan.total_num_scheduled_tokens} rows, not {rows}")
        start = time.perf_counter()
        output = executor.execute_model(plan)
        if output is None:
            output = executor.sample_tokens(None)
        seconds = time.perf_counter() - start
        scheduler.update_from_output(plan, output)
        return seconds

    def decode(self, batch, depth, round_seconds):
        depth = -(-depth // BLOCK) * BLOCK
        room = self.max_context - depth - 1
        if room <= WARM_UP_STEPS:
            raise Skipped(f"no position behind {depth} tokens: the model has {self.max_context}")
        names = [self.add(depth, 1, MOST_STEPS) for _ in range(batch)]
        most = min(room, MOST_STEPS - 1) - WARM_UP_STEPS
        try:
            return in_a_round(lambda: self.step(batch), round_seconds, most)
        finally:
            self.core.abort_requests(names)

    def prefill(self, depth, tokens, round_seconds):
        if depth % BLOCK != 0:
            raise Skipped(f"depth {depth} is no multiple of its blocks of {BLOCK}")

        def once():
            self.add(depth, tokens, 1)
            return self.step(tokens)

        return in_a_round(once, round_seconds, MOST_STEPS)

    def measure(self, batch, context, tokens, round_seconds):
        if context > self.max_context:
            raise Skipped(f"the model has {self.max_context} positions")
        if tokens == 1:
            return self.decode(batch, context - 1, round_seconds)
        if batch != 1:
            raise Skipped("chunks of several prompts are not asked for")
        return self.prefill(context - tokens, tokens, round_seconds)


def bytes_per_token(directory):
    with open(os.path.join(directory, "config.json")) as file:
        config = json.load(file)
    return 2 * 2 * config["num_hidden_layers"] * config["num_key_value_heads"] * config["head_dim"]


def in_a_round(step, round_seconds, most):
    """The mean of as many steps as fill a round, after some to warm up."""
    for i in range(WARM_UP_STEPS):
        seconds = step()
        if i == 0 and seconds > round_seconds:
            break
    steps = int(min(max(round_seconds / seconds, 1), most))
    return sum(step() for _ in range(steps)) / steps


def main():
    directory, (max_context, max_batch, cached_tokens) = sys.argv[1], map(int, sys.argv[2:5])
    round_seconds = float(sys.argv[5])
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # vLLM's log
    engine = None
    for line in sys.stdin:
        try:
            if engine is None:
                engine = Engine(directory, max_context, max_batch, cached_tokens)
            answer = {"seconds": engine.measure(*map(int, line.split()), round_seconds)}
        except Skipped as why:
            answer = {"skipped": str(why)}
        except Exception as failure:  # whatever it is, it belongs into the table
            answer = {"error": f"{type(failure).__name__}: {failure}".replace("\n", " ")[:200]}
        answers.write(json.dumps(answer) + "\n")
        if "error" in answer:
            sys.exit(1)


if __name__ == "__main__":
    main()

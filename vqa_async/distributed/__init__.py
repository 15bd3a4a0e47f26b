"""The same engine in many processes, of one machine or of a cluster; Ray Data distributes the work.

    reader (a task of Ray)       the input through sources/, as chunks of records without an answer
      -> workers (actors)        an engine each, with its share of the limits, and a journal of its own
        -> driver (this process) counts, and in the end makes one output of the journals

Who is responsible for what: Ray starts, feeds, restarts and ends processes. That nothing is lost or paid for
twice rests on our journals alone, on a disk that all see:

- A worker keeps each answer in ``OUT.parts/`` before it counts. One that was killed starts again under the
  same name, is given the same chunks again, and looks up in what it had written before what needs no request.
- Chunks are the same whenever they are read again, so nobody minds if the reader is killed.
- What is still answered twice is once in OUT.jsonl: lines are taken in by their ids.
- If this process is killed, the parts stay, and the next run takes them in before it reads its input.

Limits are divided, not asked for: each worker has its share of the requests in flight, the rates and the
budget. A limiter in a process of its own would cost a message over the network for each request, and would be
one more that all wait for when it dies; and as workers take chunks as they finish them, their shares are used
evenly.

    sharing   the share of a worker          cluster   Ray, started or found
    desk      what all workers are told      reading   the input as chunks
    part      one engine, one run, one part  work      what Ray does with a chunk
    actor     for pipelines of your own      run       all of it, from here
"""

from vqa_async.distributed.actor import VQAActor
from vqa_async.distributed.doors import arun, run
from vqa_async.distributed.run import DistributedRun

__all__ = ["DistributedRun", "VQAActor", "arun", "run"]

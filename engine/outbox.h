#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/sequence.h"

namespace mea {

// What sequences have to tell their sinks, until the step that it is about has been published, and
// the ended sequences until they have told it. Engine thread.
class Outbox {
 public:
  // Where to collect the events for the sequence's sink.
  SequenceEvents& EventsOf(Sequence* sequence);
  // Of a sequence that has ended, and holds no pages any more.
  void Keep(std::unique_ptr<Sequence> ended) { ended_.push_back(std::move(ended)); }
  // Ended, with a last event that is not delivered yet.
  const std::vector<std::unique_ptr<Sequence>>& ended() const { return ended_; }

  void Deliver();
  // Lets go of delivered sequences that no step in flight has.
  void DropDelivered();
  // The steps in flight never end: nobody has a sequence any more.
  void ForgetSteps();

 private:
  std::vector<Sequence*> with_events_;  // in the order of their first event
  std::vector<std::unique_ptr<Sequence>> ended_;
  std::vector<std::unique_ptr<Sequence>> lingering_;  // delivered, but in a step in flight
};

}  // namespace mea

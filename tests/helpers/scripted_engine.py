"""An engine whose replies are a function of the question."""

from toxoid.engines.base import Completion


class ScriptedEngine:
    """Answers ``reply(request, i)``: text, or None for a reply that was cut off."""

    name = "scripted"
    granule = 4

    def __init__(self, reply):
        self.reply = reply
        self.asked = []

    def identity(self):
        return {"engine": "scripted"}

    def close(self):
        pass

    def generate(self, requests, on_done=None):
        answers = []
        for index, request in enumerate(requests):
            self.asked.append(request)
            texts = [self.reply(request, i) for i in range(request.n)]
            done = [Completion(text or "", "length" if text is None else "stop", 1, 1) for text in texts]
            if on_done is not None:
                on_done(index, done)
            answers.append(done)
        return answers

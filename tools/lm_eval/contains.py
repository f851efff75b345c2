"""How mea_chat_facts is judged."""

import re


def process_results(doc, results):
    answer = doc["choices"][doc["gold"]]
    return {"said": float(re.search(rf"\b{re.escape(answer)}\b", results[0], re.IGNORECASE) is not None)}

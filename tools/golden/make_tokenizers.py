"""Writes tests/engine/text/data: small tokenizers of every kind that mea reads, texts, and what
Hugging Face tokenizers makes of them. Run it again only to change the tests:

    pip install tokenizers==0.23.3 && python tools/golden/make_tokenizers.py tests/engine/text/data

Every random choice comes from SEED, so that a second run gives the same files.

  strings.json       the texts
  broken_utf8.json   [bytes in hex, what Python makes of them] for texts that are not UTF-8
  <kind>.json        a tokenizer.json
  <kind>.golden      little-endian uint32: for each text the hash of its ids and the hash of their
                     decoding; then for NUM_ID_LISTS lists of random ids the hash of their decoding
  <kind>.ids.json    the ids of the first NUM_FULL texts, to see where a difference begins
"""

import json
import random
import struct
import sys
import unicodedata
from pathlib import Path

from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers,
                        processors, trainers)

SEED = 20261121
NUM_FULL = 600
NUM_ID_LISTS = 600

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")

# Article 1 of the Universal Declaration of Human Rights, or what comes near it.
SENTENCES = """
All human beings are born free and equal in dignity and rights. They are endowed with reason and conscience.
They should act towards one another in a spirit of brotherhood; it's what we've always said, and they'll agree.
Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und Gewissen begabt.
Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués de raison.
Todos los seres humanos nacen libres e iguales en dignidad y derechos, ¿no es así? ¡Sí, señor!
Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar. İstanbul'da ışık vardı.
Všichni lidé rodí se svobodní a sobě rovní co do důstojnosti a práv. Žluťoučký kůň.
Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw.
Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền lợi.
Все люди рождаются свободными и равными в своём достоинстве и правах.
Всі люди народжуються вільними і рівними у своїй гідності та правах, їхній ґанок.
Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα.
يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق، وقد وهبوا عقلًا وضميرًا.
کُلیِّهٔ افراد بشر آزاد به دنیا می‌آیند و از لحاظ حیثیت و حقوق با هم برابرند.
כל בני אדם נולדו בני חורין ושווים בערכם ובזכויותיהם. שָׁלוֹם עֲלֵיכֶם
सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है।
সমস্ত মানুষ স্বাধীনভাবে সমান মর্যাদা এবং অধিকার নিয়ে জন্মগ্রহণ করে।
மனிதப் பிறவியினர் சகலரும் சுதந்திரமாகவே பிறக்கின்றனர்.
มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ
လူတိုင်းသည် တူညီ လွတ်လပ်သော ဂုဏ်သိက္ခာဖြင့် မွေးဖွားလာသူများ ဖြစ်သည်။
ყველა ადამიანი იბადება თავისუფალი და თანასწორი თავისი ღირსებითა და უფლებებით.
Բոլոր մարդիկ ծնվում են ազատ ու հավասար իրենց արժանապատվությամբ ու իրավունքներով։
የሰው ልጅ ሁሉ ሲወለድ ነጻና በክብርና በመብትም እኩልነት ያለው ነው።
人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。
すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。カタカナ「テスト」
모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다. 한국어
""".strip().split("\n")

CODE = """
def main(argv: list[str]) -> int:
    for i in range(10):
        print(f"{i:>3} {argv[i]!r}")  # comment
	return x != y and (a <= b or not c)
std::vector<int> v{1, 2, 3};
if (x == 0x7fff && !(flags & kMask)) { return -1; }
#include <string>
<div class="row" id='a1'>text &amp; more</div>
SELECT name, COUNT(*) FROM users WHERE age >= 18 GROUP BY name;
{"key": [1, 2.5e-3, null, true], "nested": {"a": "b\\n"}}
https://example.org/path/to?q=1&r=%20x#frag
user.name+tag@mail.example.com
C:\\Users\\me\\file_v2.0-final(1).txt
camelCaseName snake_case_name SCREAMING_CASE kebab-case-name
/* ---------- */ // ======== //
x = a*b+c/d-e%f^g|h&~i<<2>>1;
""".strip("\n").split("\n")

EMOJI = ["😀", "👍🏽", "👨‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪", "🇯🇵🇺🇸", "❤️", "☺", "🧑🏿‍🚀", "🤷‍♀️", "1️⃣", "#️⃣",
         "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "™️", "🀄", "𝄞", "𝓗𝓮𝓵𝓵𝓸", "Ａｂｃ", "㎏", "ﬁ", "Å", "Ω", "한", "각", "ế", "q̣̇", "Z͑ͫ̓ͪ̂ͫ̽͏", "e\u0301", "n\u0303o",
         "\u0130i", "ß", "ẞ", "ſ", "\u212a", "ǅ", "\u1e9b\u0323", "\u2126", "\u0344", "\u0958", "\ufb1d"]
SPACES = [" ", "  ", "   ", "\t", "\n", "\r\n", "\r", "\n\n", " \n ", "\x0b", "\x0c", "\x1c", "\x85", "\xa0",
          "\u1680", "\u180e", "\u2000", "\u2003", "\u2009", "\u200a", "\u200b", "\u200c", "\u200d", "\u2028",
          "\u2029", "\u202f", "\u205f", "\u2060", "\u3000", "\ufeff", " \t", "\t ", "\n ", " \xa0 ", "        "]
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>", "</s>", "<unk>", "[MASK]", "<tool>", "@@",
            "é!", "<|two words|>", "Yes", "<|im_", "|>", "<0x41>", "<0xE2>", "▁", "▁▁", "Ġ", "Ċ"]


def assigned_code_points():
    """Of this Python's Unicode (14), which PCRE2 10.42 and Hugging Face classify alike. The tables by which
    Hugging Face normalizes are older; the two dozen code points that they lack are left out."""
    nfkd = normalizers.NFKD()
    return [c for c in map(chr, range(0x110000)) if unicodedata.category(c) not in ("Cn", "Cs", "Co") and
            nfkd.normalize_str(c) == unicodedata.normalize("NFKD", c)]


def make_strings(rng):
    words = [w for s in SENTENCES for w in s.split()]
    code_points = assigned_code_points()
    strings = ["", " ", "  ", "\n", "\t", "a", " a", "a ", "Hello world", " Hello  world ", "<s>", "<s>Hello",
               "<s> Hello", "\0", "a\0b", "▁", "▁a", "it'S I'M we'LL 'ſ 'K x'D", "don't", "1234567", "ß", "\ufffd"]
    strings += SPECIALS + EMOJI + SPACES + [chr(c) for c in range(1, 256)]

    def pick(*choices):
        return rng.choice(rng.choice(choices))

    for _ in range(3600):
        sentence = rng.choice(SENTENCES)
        begin = rng.randrange(len(sentence))
        strings.append(sentence[begin:begin + rng.randint(1, 40)])
    for _ in range(3600):
        strings.append("".join(rng.choice(words)[:rng.randint(1, 8)] + rng.choice([" ", ", ", ".", "-", "'", "", "  "])
                               for _ in range(rng.randint(1, 4))))
    for _ in range(3000):
        strings.append("".join(pick(SPACES, words, SPACES, ["a", "1", "!", "'s"])[:6] for _ in range(rng.randint(2, 6))))
    for _ in range(1600):
        strings.append(pick(["", "$", "x", " ", "-"], ["+"]) + str(rng.randrange(10**rng.randint(1, 14))) +
                       pick(["", ".5", ",000", "%", "²", "½", "e10", "Ⅷ", "٣٤", "१२", "੩", "㊿", " 7", "a"]))
    for _ in range(1600):
        line = "\n".join(rng.sample(CODE, rng.randint(1, 2)))
        begin = rng.randrange(len(line))
        strings.append(line[begin:begin + rng.randint(1, 40)])
    for _ in range(2000):
        strings.append("".join(pick(EMOJI, EMOJI, words, [" ", "a", "\u0301", "\u200d", "\ufe0f"])[:9]
                               for _ in range(rng.randint(1, 4))))
    for _ in range(2400):
        strings.append("".join(rng.choice(code_points) for _ in range(rng.randint(1, 5))))
    for _ in range(3000):
        strings.append("".join(pick(SPECIALS, SPECIALS, SPACES, [" ", "  "], words, ["", "x", "_", "é", "1", "."])[:14]
                               for _ in range(rng.randint(2, 6))))
    for _ in range(40):
        unit = pick(words, EMOJI, ["a", "ab", " ", "0", "-", "=", "\n", "аб", "▁", "\xff", "ー", "aaab"])
        strings.append(unit * rng.randint(20, 60))
    for _ in range(6):
        strings.append("".join(rng.choice("abcdefgh") for _ in range(rng.randint(1000, 3000))))
    return strings


def make_broken(rng):
    """Bytes that are nearly UTF-8, in hex, and what Python makes of them."""
    broken = []
    edges = [0x00, 0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xec, 0xed,
             0xee, 0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xff]
    for _ in range(700):
        data = bytes(rng.choice(edges) for _ in range(rng.randint(1, 9)))
        if rng.random() < 0.4:
            data = bytearray(rng.choice(SENTENCES + EMOJI).encode()[:rng.randint(1, 20)])
            data[rng.randrange(len(data))] = rng.choice(edges)
        broken.append([bytes(data).hex(), bytes(data).decode("utf-8", errors="replace")])
    return broken


def corpus(rng):
    words = [w for s in SENTENCES for w in s.split()]
    for _ in range(3000):
        yield rng.choice(SENTENCES)
        yield " ".join(rng.choice(words) for _ in range(8))
        yield rng.choice(CODE)


def trained(rng, vocab_size, pre_tokenizer, special, **model):
    """A BPE whose vocabulary begins with `special`. Byte-level if there is no unk_token."""
    byte_level = "unk_token" not in model
    tokenizer = Tokenizer(models.BPE(**model))
    tokenizer.pre_tokenizer = pre_tokenizer
    # Byte-level vocabularies hold all bytes, the others few enough code points to need a fallback.
    alphabet = {"initial_alphabet": pre_tokenizers.ByteLevel.alphabet()} if byte_level else {"limit_alphabet": 120}
    tokenizer.train_from_iterator(
        corpus(rng), trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=special, show_progress=False,
                                         **alphabet))
    return tokenizer


def without_added(tokenizer, keep):
    """The trainer makes every token of its `special_tokens` an added token; only `keep` shall be."""
    data = json.loads(tokenizer.to_str())
    data["added_tokens"] = [t for t in data["added_tokens"] if t["content"] in keep]
    return Tokenizer.from_str(json.dumps(data))


def add_usual(tokenizer):
    tokenizer.add_special_tokens([AddedToken("<|im_start|>"), AddedToken("<|im_end|>"),
                                  AddedToken("[MASK]", lstrip=True, rstrip=True), AddedToken("<|two words|>")])
    tokenizer.add_tokens([AddedToken("<tool>", normalized=True, lstrip=True), AddedToken("@@", single_word=True),
                          AddedToken("é!", normalized=False), AddedToken("Yes", single_word=True, rstrip=True)])


def bos_template(tokenizer, bos):
    return processors.TemplateProcessing(single=f"{bos} $A", pair=f"{bos} $A {bos} $B",
                                         special_tokens=[(bos, tokenizer.token_to_id(bos))])


def gpt2(rng):
    tokenizer = trained(rng, 1400, pre_tokenizers.ByteLevel(add_prefix_space=False), ["<|endoftext|>"])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    add_usual(tokenizer)
    return tokenizer


def split_byte_level(pattern):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated", invert=False),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def llama3(rng):
    tokenizer = trained(rng, 1600, split_byte_level(LLAMA3), ["<|endoftext|>", "<s>"], ignore_merges=True)
    # Words that no merge leads to, as Llama 3 has some.
    data = json.loads(tokenizer.to_str())
    for word in ["Ġwzq", "xyzzy", "!?!", "12", "Ġ1"]:
        data["model"]["vocab"].setdefault(word, len(data["model"]["vocab"]))
    tokenizer = Tokenizer.from_str(json.dumps(data))
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), bos_template(tokenizer, "<s>")])
    tokenizer.decoder = decoders.ByteLevel()
    add_usual(tokenizer)
    return tokenizer


def qwen2(rng):
    tokenizer = trained(rng, 1400, split_byte_level(QWEN2), ["<|endoftext|>"])
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    add_usual(tokenizer)
    return tokenizer


BYTES = [f"<0x{b:02X}>" for b in range(256)]
LLAMA2_DECODER = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]


def sentencepiece(rng, vocab_size, special, scheme="always", **model):
    control = ["<unk>", "<s>", "</s>"]
    tokenizer = trained(rng, vocab_size, pre_tokenizers.Metaspace(prepend_scheme=scheme), control + special,
                        unk_token="<unk>", **model)
    return without_added(tokenizer, control)


def llama2(rng):
    tokenizer = sentencepiece(rng, 1500, BYTES, byte_fallback=True, fuse_unk=True)
    tokenizer.pre_tokenizer = None
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.post_processor = bos_template(tokenizer, "<s>")
    tokenizer.decoder = decoders.Sequence(LLAMA2_DECODER)
    add_usual(tokenizer)
    return tokenizer


def mistral(rng):
    tokenizer = sentencepiece(rng, 1500, BYTES, byte_fallback=True, fuse_unk=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.post_processor = bos_template(tokenizer, "<s>")
    tokenizer.decoder = decoders.Sequence(LLAMA2_DECODER)
    add_usual(tokenizer)
    tokenizer.add_tokens([AddedToken("  ", normalized=False)])
    return tokenizer


def digits(rng):
    """As SmolLM, with what else a byte-level tokenizer may ask for."""
    tokenizer = trained(rng, 600, pre_tokenizers.ByteLevel(add_prefix_space=True), ["<|endoftext|>"])
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKD(), normalizers.Lowercase(),
                                                 normalizers.Replace(Regex(r"[-_]+\d?"), " -")])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(".", "merged_with_previous"), pre_tokenizers.Split(Regex(r"\s+|[+*]"), "merged_with_next"),
        pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.Split(Regex(r"\w+"), "contiguous", invert=True),
        pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A <|endoftext|>", pair="$A $B", special_tokens=[("<|endoftext|>", 0)])
    tokenizer.decoder = decoders.ByteLevel()
    add_usual(tokenizer)
    return tokenizer


def unknown(rng):
    """SentencePiece without byte fallback: every unknown code point is one <unk>."""
    tokenizer = sentencepiece(rng, 500, [], fuse_unk=False)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Strip(left=True, right=True), normalizers.NFKC()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=False), pre_tokenizers.Split("x", "removed"),
        pre_tokenizers.Metaspace(prepend_scheme="always", split=True)])
    tokenizer.decoder = decoders.Metaspace()
    add_usual(tokenizer)
    return tokenizer


def partial(rng):
    """SentencePiece whose byte tokens are not complete: what lacks one of them is unknown, and fused."""
    tokenizer = sentencepiece(rng, 500, [b for b in BYTES if b < "<0xE3>"], byte_fallback=True, fuse_unk=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=True)
    tokenizer.decoder = decoders.Sequence(LLAMA2_DECODER[:3])
    add_usual(tokenizer)
    return tokenizer


KINDS = [gpt2, llama3, qwen2, llama2, mistral, digits, unknown, partial]


def fnv1a(data):
    """The 64-bit hash, folded to 32."""
    value = 0xcbf29ce484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001b3 & 0xffffffffffffffff
    return (value ^ value >> 32) & 0xffffffff


def random_ids(index, vocab_size):
    """The same lists as RandomIds in tokenizer_golden_test.cc (splitmix64)."""
    state = index

    def draw():
        nonlocal state
        state = (state + 0x9e3779b97f4a7c15) & 0xffffffffffffffff
        z = state
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9 & 0xffffffffffffffff
        z = (z ^ z >> 27) * 0x94d049bb133111eb & 0xffffffffffffffff
        return z ^ z >> 31

    # Half of the lists draw from the first 300 ids alone, where single bytes are.
    limit = min(vocab_size, 300) if index % 2 else vocab_size
    return [draw() % limit for _ in range(draw() % 40)]


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(SEED)
    strings = make_strings(rng)
    broken = make_broken(rng)
    strings += [text for _, text in broken]
    dump = lambda items: "[\n" + ",\n".join(json.dumps(i, ensure_ascii=False, separators=(",", ":")) for i in items) + "\n]\n"
    (folder / "strings.json").write_text(dump(strings))
    (folder / "broken_utf8.json").write_text(dump(broken))
    for kind in KINDS:
        tokenizer = kind(random.Random(SEED))
        data = json.loads(tokenizer.to_str())
        if kind in (gpt2, llama2):  # as files before tokenizers 0.20 write them
            data["model"]["merges"] = [" ".join(m) for m in data["model"]["merges"]]
        path = folder / f"{kind.__name__}.json"
        path.write_text(json.dumps(data, ensure_ascii=False, separators=(",", ":")))
        tokenizer = Tokenizer.from_file(str(path))
        pack = lambda ids: struct.pack(f"<I{len(ids)}I", len(ids), *ids)
        decode = lambda ids: b"\0".join(tokenizer.decode(ids, skip_special_tokens=s).encode() for s in (False, True))
        encodings = [tokenizer.encode(s).ids for s in strings]
        tokenizer.encode_special_tokens = True  # that is: as ordinary text
        plain = [tokenizer.encode(s, add_special_tokens=False).ids for s in strings]
        hashes = []
        for ids, plain_ids in zip(encodings, plain):
            hashes += [fnv1a(pack(ids) + pack(plain_ids)), fnv1a(decode(ids))]
        vocab_size = max(tokenizer.get_vocab().values()) + 1
        hashes += [fnv1a(decode(random_ids(i, vocab_size))) for i in range(NUM_ID_LISTS)]
        (folder / f"{kind.__name__}.golden").write_bytes(struct.pack(f"<{len(hashes)}I", *hashes))
        (folder / f"{kind.__name__}.ids.json").write_text(dump(encodings[:NUM_FULL]))
        print(kind.__name__, vocab_size, path.stat().st_size)
    print(len(strings), "texts", sum(f.stat().st_size for f in folder.iterdir()), "bytes in all")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

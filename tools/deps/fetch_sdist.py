"""Fetches the source distribution of a Python project from the package index that pip would ask, and checks its hash.

    fetch_sdist.py NAME VERSION SHA256 FILE

pip itself would first build the project's metadata, which takes minutes and wants its whole build chain. Read as pip
reads them: PIP_INDEX_URL, PIP_EXTRA_INDEX_URL, PIP_CERT, and the same in pip's configuration files.
"""

import base64
import configparser
import hashlib
import html.parser
import os
import ssl
import sys
import urllib.parse
import urllib.request
from pathlib import Path

DEFAULT_INDEX = "https://pypi.org/simple"
TIMEOUT_S = 60
MAX_BYTES = 64 << 20


def pip_settings():
    home = Path.home()
    files = [Path("/etc/xdg/pip/pip.conf"), Path("/etc/pip.conf"), home / ".pip/pip.conf", home / ".config/pip/pip.conf"]
    files += [Path(sys.prefix) / "pip.conf", Path(os.environ.get("PIP_CONFIG_FILE") or os.devnull)]
    settings = {}
    for file in files:  # the later one counts
        parser = configparser.RawConfigParser(strict=False)
        try:
            parser.read(file)
        except (configparser.Error, OSError, UnicodeDecodeError):
            continue
        for section in ("global", "download"):
            if parser.has_section(section):
                settings.update(parser.items(section))
    for key in ("index-url", "extra-index-url", "cert"):
        value = os.environ.get("PIP_" + key.upper().replace("-", "_"))
        if value:
            settings[key] = value
    return settings


class Links(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        if tag == "a":
            self.found.append(dict(attributes).get("href") or "")


class Index:
    def __init__(self, settings):
        self.context = ssl.create_default_context(cafile=settings.get("cert") or None)
        self.urls = [settings.get("index-url", DEFAULT_INDEX), *settings.get("extra-index-url", "").split()]

    def get(self, url):
        parts = urllib.parse.urlsplit(url)
        user, at, host = parts.netloc.rpartition("@")
        request = urllib.request.Request(parts._replace(netloc=host, fragment="").geturl())
        request.add_header("Accept", "text/html")
        if at:
            secret = urllib.parse.unquote(user).encode()
            request.add_header("Authorization", "Basic " + base64.b64encode(secret).decode())
        with urllib.request.urlopen(request, timeout=TIMEOUT_S, context=self.context) as answer:
            return answer.read(MAX_BYTES), at and user

    def find(self, name, file_name):
        """Bytes of the file, from the first index that has it."""
        errors = []
        for index in self.urls:
            page = f"{index.rstrip('/')}/{name}/"
            try:
                links = Links()
                text, user = self.get(page)
                links.feed(text.decode())
                for link in links.found:
                    url = urllib.parse.urlsplit(urllib.parse.urljoin(page, link))
                    if url.path.rsplit("/", 1)[-1] != file_name:
                        continue
                    if user and url.hostname == urllib.parse.urlsplit(page).hostname and "@" not in url.netloc:
                        url = url._replace(netloc=f"{user}@{url.netloc}")
                    return self.get(url.geturl())[0]
                errors.append(f"{shown(page)} does not list it")
            except (OSError, ValueError) as error:
                errors.append(f"{shown(page)}: {error}")
        sys.exit(f"fetch_sdist: no {file_name}: {'; '.join(errors)}")


def shown(url):
    """Without a password."""
    parts = urllib.parse.urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def main():
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    name, version, sha256, target = sys.argv[1:]
    file_name = f"{name}-{version}.tar.gz"
    data = Index(pip_settings()).find(name, file_name)
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        sys.exit(f"fetch_sdist: {file_name} has the sha256 {found}, not {sha256}")
    Path(target).write_bytes(data)


main()

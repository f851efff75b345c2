"""Certificates as an operator makes them, with the openssl program."""

import pathlib
import subprocess


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


class Authority:
    """Signs certificates; each is a pair of files, NAME.pem and NAME.key."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir()
        self.cert, self.key = self.directory / "ca.pem", self.directory / "ca.key"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", self.key, "-out", self.cert,
                "-days", "2", "-subj", "/CN=mea test CA", "-addext", "keyUsage=critical,keyCertSign")

    def sign(self, name, address="127.0.0.1", client=False, expired=False):
        cert, key, request = (self.directory / f"{name}.{end}" for end in ("pem", "key", "csr"))
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        kind = "IP" if address[0].isdigit() else "DNS"
        config = self.directory / "ca.conf"
        config.write_text(f"[ca]\ndefault_ca=own\n[own]\ndatabase={self.directory}/index\nnew_certs_dir={self.directory}\nrand_serial=yes\n"
                          "default_md=sha256\npolicy=any\nunique_subject=no\n[any]\ncommonName=supplied\n"
                          f"[usage]\nsubjectAltName={kind}:{address}\nextendedKeyUsage={'clientAuth' if client else 'serverAuth'}\n")
        (self.directory / "index").touch()
        end = "20200102000000Z" if expired else "20991231000000Z"
        openssl("ca", "-batch", "-config", config, "-extensions", "usage", "-in", request, "-out", cert, "-notext", "-cert", self.cert,
                "-keyfile", self.key, "-startdate", "20200101000000Z", "-enddate", end)
        return cert, key

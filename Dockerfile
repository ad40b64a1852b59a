# docker build -t ditexp .
# docker run --gpus all -v "$PWD/outputs:/srv/ditexp/outputs" ditexp run -m solver=euler,heun steps=20,50
# On a cluster without Docker: docs/cluster.md.
FROM python:3.12-slim

COPY pyproject.toml requirements.lock README.md LICENSE /ditexp/
RUN pip install --no-cache-dir --require-hashes -r /ditexp/requirements.lock

COPY ditexp /ditexp/ditexp
COPY conf /ditexp/conf
COPY experiments /ditexp/experiments
RUN pip install --no-cache-dir --no-deps --no-build-isolation /ditexp \
    && useradd --create-home ditexp \
    && install -d -o ditexp /srv/ditexp

# Settings, caches and outputs of a user without a home, as Apptainer and `docker run --user` start.
ENV DITEXP_CACHE=/srv/ditexp/.cache MPLCONFIGDIR=/srv/ditexp/.cache/matplotlib
USER 1000
WORKDIR /srv/ditexp
ENTRYPOINT ["ditexp"]
CMD ["--help"]

# restore on a CPU, as an ordinary user:
#
#   docker build -t restore .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/pictures" restore derain photo.jpg
#
# podman and buildah take the same file. docs/installing.md says more.
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE weights.toml ./
COPY restorecli ./restorecli
RUN pip wheel --no-cache-dir --disable-pip-version-check --no-deps --wheel-dir /wheel .

FROM python:${PYTHON}-slim
COPY constraints.txt /tmp/constraints.txt
COPY --from=build /wheel /tmp/wheel
# PyTorch's own index has builds without CUDA, which are far smaller.
RUN pip install --no-cache-dir --disable-pip-version-check \
      --extra-index-url https://download.pytorch.org/whl/cpu \
      --constraint /tmp/constraints.txt /tmp/wheel/*.whl \
 && rm -r /tmp/wheel /tmp/constraints.txt \
 && useradd --create-home --uid 1000 restore
USER restore
WORKDIR /pictures
ENTRYPOINT ["restore"]
CMD ["--help"]

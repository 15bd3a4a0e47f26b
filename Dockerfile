# The command line in a container: docker build -t vqa-async . Nothing is fetched but from the registries of
# images and of Python packages. README.md, "In a container", has the commands to run it with.

FROM python:3.13-slim-bookworm AS build
# Extras of pyproject.toml, with commas between. ocr needs system libraries besides, and is left out.
ARG EXTRAS=cost,speed,structured,zstd
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY vqa_async vqa_async
RUN python -m venv /opt/vqa-async \
 && /opt/vqa-async/bin/pip install --no-cache-dir --disable-pip-version-check ".[$EXTRAS]"

FROM python:3.13-slim-bookworm
COPY --from=build /opt/vqa-async /opt/vqa-async
# A user of its own. For files of yours: docker run --user "$(id -u):$(id -g)".
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin vqa
USER 10001:10001
# Plain lines are written at once; nothing is written beside the package, which others own.
ENV PATH=/opt/vqa-async/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /data
# In exec form, so that the signals of docker stop reach the program, which then drains.
ENTRYPOINT ["vqa-async"]
CMD ["--help"]

"""A server of our own, and archives for it to serve."""

import contextlib
import http.server
import io
import threading
import zipfile


@contextlib.contextmanager
def serve(content, length=None, status=200):
    """Serve `content` at any address of a loopback server; yield its URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(length or len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    requests = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/data.zip"
        yield url, requests
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def archive(**contents):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        for name, text in contents.items():
            file.writestr(f"inner/{name}.txt", text)
    return data.getvalue()
